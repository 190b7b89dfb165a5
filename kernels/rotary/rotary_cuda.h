// CUDA implementation of rotary.h; arguments are validated.
#pragma once

#include "kernels/rotary/rotary.h"

namespace stemfabric::cuda {

void rotary(const ExecutionContext& ctx, const RotaryArgs& args);

}  // namespace stemfabric::cuda
