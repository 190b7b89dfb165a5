// What the CPU implementation's files share: the problem with its pointers resolved, and the two
// entry points behind kernels/attention/attention.h. Arguments are already validated.
#pragma once

#include "kernels/attention/attention.h"
#include "kernels/attention/attention_math.h"
#include "kernels/attention/attention_views.h"

namespace stemfabric::attention_cpu {

using attention::key_mask_of;
using attention::KeyMask;
using attention::Rows;
using attention::rows_of;
using attention::stat_rows_of;

// Writes the indices of the keys that may be attended to, in order; returns how many there are.
// All further work is done on these keys alone: a masked key is never read.
inline int64_t collect_keys(const KeyMask& mask, int64_t b, int64_t tokens, int32_t* index) {
  int64_t n = 0;
  for (int64_t j = 0; j < tokens; ++j) {
    if (mask.open(b, j)) {
      index[n++] = static_cast<int32_t>(j);
    }
  }
  return n;
}

inline int64_t round_up(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

// Cuts one block of scratch memory into 64-byte aligned pieces. With a null block it only counts.
class ScratchCutter {
 public:
  explicit ScratchCutter(float* block) : block_(block) {}
  float* take(int64_t floats) {
    float* piece = block_ == nullptr ? nullptr : block_ + used_;
    used_ += round_up(floats, 16);
    return piece;
  }
  int64_t used() const { return used_; }

 private:
  float* block_;
  int64_t used_ = 0;
};

}  // namespace stemfabric::attention_cpu

namespace stemfabric::cpu {

void attention_forward(const ExecutionContext& ctx, const AttentionForwardArgs& args);
void attention_backward(const ExecutionContext& ctx, const AttentionBackwardArgs& args);

}  // namespace stemfabric::cpu
