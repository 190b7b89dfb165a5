// CUDA implementation of stft.h; arguments are validated.
#pragma once

#include "kernels/stft/stft.h"

namespace stemfabric::cuda {

void stft(const ExecutionContext& ctx, const StftArgs& args);

}  // namespace stemfabric::cuda
