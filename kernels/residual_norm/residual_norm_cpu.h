// CPU implementation of residual_norm.h. Called by residual_norm.cpp with checked arguments.
#pragma once

#include "kernels/residual_norm/residual_norm.h"

namespace stemfabric::cpu {

void residual_norm_forward(const ExecutionContext& ctx, const ResidualNormForwardArgs& args);
void residual_norm_backward(const ExecutionContext& ctx, const ResidualNormBackwardArgs& args);

}  // namespace stemfabric::cpu
