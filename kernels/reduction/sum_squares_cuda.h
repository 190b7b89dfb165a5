// CUDA implementation of sum_squares_into (reduction.h); arguments are validated.
#pragma once

#include "kernels/reduction/reduction.h"

namespace stemfabric::cuda {

void sum_squares_into(const ExecutionContext& ctx, const SumSquaresArgs& args);

}  // namespace stemfabric::cuda
