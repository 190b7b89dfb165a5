// CUDA implementation of gather.h; arguments are validated.
#pragma once

#include "kernels/gather/gather.h"

namespace stemfabric::cuda {

void gather(const ExecutionContext& ctx, const GatherArgs& args);

}  // namespace stemfabric::cuda
