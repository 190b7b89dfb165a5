// The CPU implementations behind activation.h; arguments are validated there.
#pragma once

#include "kernels/activation/activation.h"

namespace stemfabric::cpu {

void activation_forward(const ExecutionContext& ctx, const ActivationForwardArgs& args);
void activation_backward(const ExecutionContext& ctx, const ActivationBackwardArgs& args);

}  // namespace stemfabric::cpu
