// CPU implementation of reduction.h. Called by reduction.cpp with checked arguments.
#pragma once

#include "kernels/reduction/reduction.h"

namespace stemfabric::cpu {

void sum_squares_into(const ExecutionContext& ctx, const SumSquaresArgs& args);
void column_sum(const ExecutionContext& ctx, const ColumnSumArgs& args);

}  // namespace stemfabric::cpu
