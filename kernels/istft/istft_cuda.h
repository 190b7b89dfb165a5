// CUDA implementation of istft.h; arguments are validated.
#pragma once

#include "kernels/istft/istft.h"

namespace stemfabric::cuda {

void istft(const ExecutionContext& ctx, const IstftArgs& args);

}  // namespace stemfabric::cuda
