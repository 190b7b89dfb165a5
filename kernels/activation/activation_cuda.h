// CUDA implementation of activation.h; arguments are validated.
#pragma once

#include "kernels/activation/activation.h"

namespace stemfabric::cuda {

void activation_forward(const ExecutionContext& ctx, const ActivationForwardArgs& args);
void activation_backward(const ExecutionContext& ctx, const ActivationBackwardArgs& args);

}  // namespace stemfabric::cuda
