// CPU implementation of gather.h; arguments are validated.
#pragma once

#include "kernels/gather/gather.h"

namespace stemfabric::cpu {

void gather(const ExecutionContext& ctx, const GatherArgs& args);

}  // namespace stemfabric::cpu
