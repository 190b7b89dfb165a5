// CUDA implementation of stft_features.h; arguments are validated.
#pragma once

#include "kernels/stft_features/stft_features.h"

namespace stemfabric::cuda {

void stft_features(const ExecutionContext& ctx, const StftFeaturesArgs& args);

}  // namespace stemfabric::cuda
