// CUDA implementation of cast.h; arguments are validated.
#pragma once

#include "kernels/cast/cast.h"

namespace stemfabric::cuda {

void cast(const ExecutionContext& ctx, const CastArgs& args);

}  // namespace stemfabric::cuda
