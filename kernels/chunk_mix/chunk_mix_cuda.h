// CUDA implementation of chunk_mix.h; arguments are validated.
#pragma once

#include "kernels/chunk_mix/chunk_mix.h"

namespace stemfabric::cuda {

void chunk_mix(const ExecutionContext& ctx, const ChunkMixArgs& args);

}  // namespace stemfabric::cuda
