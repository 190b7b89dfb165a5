// CPU implementation of rotary.h. Called by rotary.cpp with checked arguments.
#pragma once

#include "kernels/rotary/rotary.h"

namespace stemfabric::cpu {

void rotary(const ExecutionContext& ctx, const RotaryArgs& args);

}  // namespace stemfabric::cpu
