// CPU implementation of stem_mask.h. Called by stem_mask.cpp with checked arguments.
#pragma once

#include "kernels/stem_mask/stem_mask.h"

namespace stemfabric::cpu {

void mask_apply(const ExecutionContext& ctx, const MaskApplyArgs& args);
void mask_count(const ExecutionContext& ctx, const MaskCountArgs& args);
void mask_loss(const ExecutionContext& ctx, const MaskLossArgs& args);

}  // namespace stemfabric::cpu
