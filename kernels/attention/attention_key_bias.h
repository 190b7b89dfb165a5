// Key masks for attention by a library that knows none: what is added to the scores, and rows that
// no key is open to. CUDA only.
#pragma once

#include "kernels/attention/attention_views.h"
#include "runtime/core/bf16.h"

namespace stemfabric::cuda {

// Far below any score, and finite: a row without open keys then has weights that are numbers.
inline constexpr float kClosedKey = -1e30f;

// bias[b, j] = 0 where key j of entry b is open, else kClosedKey. f32 [B, T], dense.
void attention_key_bias(const ExecutionContext& ctx, const attention::KeyMask& mask, float* bias,
                        int64_t batch, int64_t tokens);

// Zeros all rows of the batch entries that have no open key. bf16 [B, T, H, D] each; absent ones
// (data = nullptr) are left out.
struct AttentionRowsArgs {
  attention::Rows<Bf16> rows[3];  // an array that device code may walk over
  int64_t batch, tokens, heads, dim;
};
void attention_clear_closed(const ExecutionContext& ctx, const attention::KeyMask& mask,
                            const AttentionRowsArgs& args);

}  // namespace stemfabric::cuda
