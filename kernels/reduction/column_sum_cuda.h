// CUDA implementation of column_sum of reduction.h; arguments are validated.
#pragma once

#include "kernels/reduction/reduction.h"

namespace stemfabric::cuda {

void column_sum(const ExecutionContext& ctx, const ColumnSumArgs& args);

}  // namespace stemfabric::cuda
