// CUDA implementation of stem_loss.h. Called by stem_loss.cpp with checked arguments.
#pragma once

#include "kernels/stem_loss/stem_loss.h"

namespace stemfabric::cuda {

void stem_count(const ExecutionContext& ctx, const StemCountArgs& args);
void stem_loss(const ExecutionContext& ctx, const StemLossArgs& args);

}  // namespace stemfabric::cuda
