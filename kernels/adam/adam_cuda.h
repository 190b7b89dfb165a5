// CUDA implementation of adam.h. Called by adam.cpp with checked arguments.
#pragma once

#include "kernels/adam/adam.h"

namespace stemfabric::cuda {

void adam_step(const ExecutionContext& ctx, const AdamArgs& args);
void ema_update(const ExecutionContext& ctx, const EmaArgs& args);

}  // namespace stemfabric::cuda
