// CUDA implementation of attention.h; arguments are validated.
#pragma once

#include "kernels/attention/attention.h"

namespace stemfabric::cuda {

void attention_forward(const ExecutionContext& ctx, const AttentionForwardArgs& args);
void attention_backward(const ExecutionContext& ctx, const AttentionBackwardArgs& args);

}  // namespace stemfabric::cuda
