// CUDA implementation of standardize.h; arguments are validated.
#pragma once

#include "kernels/standardize/standardize.h"

namespace stemfabric::cuda {

void standardize(const ExecutionContext& ctx, const StandardizeArgs& args);

}  // namespace stemfabric::cuda
