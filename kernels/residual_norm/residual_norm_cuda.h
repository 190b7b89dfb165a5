// CUDA implementation of residual_norm.h; arguments are validated.
#pragma once

#include "kernels/residual_norm/residual_norm.h"

namespace stemfabric::cuda {

void residual_norm_forward(const ExecutionContext& ctx, const ResidualNormForwardArgs& args);
void residual_norm_backward(const ExecutionContext& ctx, const ResidualNormBackwardArgs& args);

}  // namespace stemfabric::cuda
