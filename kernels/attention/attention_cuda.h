// CUDA implementation of attention.h; arguments are validated.
#pragma once

#include "kernels/attention/attention.h"

namespace stemfabric::cuda {

void attention_forward(const ExecutionContext& ctx, const AttentionForwardArgs& args);
void attention_backward(const ExecutionContext& ctx, const AttentionBackwardArgs& args);

// Of bf16 tensors that are not empty.
void attention_backward_bf16(const ExecutionContext& ctx, const AttentionBackwardArgs& args);
void attention_forward_bf16(const ExecutionContext& ctx, const AttentionForwardArgs& args);

}  // namespace stemfabric::cuda
