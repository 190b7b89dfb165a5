// CPU implementation of reduction.h. Called by reduction.cpp with checked arguments.
#pragma once

#include "kernels/reduction/reduction.h"

namespace stemfabric::cpu {

SumSquares sum_squares(const ExecutionContext& ctx, const ConstTensorView& x);
void column_sum(const ExecutionContext& ctx, const ColumnSumArgs& args);

}  // namespace stemfabric::cpu
