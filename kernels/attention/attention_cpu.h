// What the CPU implementation's files share: the problem with its pointers resolved, and the two
// entry points behind kernels/attention/attention.h. Arguments are already validated.
#pragma once

#include "kernels/attention/attention.h"
#include "kernels/attention/attention_math.h"

namespace stemfabric::attention_cpu {

// A [B, T, H, D] tensor seen by rows of D consecutive elements.
template <typename T>
struct Rows {
  T* data = nullptr;
  int64_t batch_stride = 0, token_stride = 0, head_stride = 0;

  T* head(int64_t b, int64_t h) const { return data + b * batch_stride + h * head_stride; }
};
inline Rows<const float> rows_of(const ConstTensorView& view) {
  if (!view) {
    return {};
  }
  return {view.as<float>(), view.stride(0), view.stride(1), view.stride(2)};
}
inline Rows<float> rows_of(const TensorView& view) {
  if (!view) {
    return {};
  }
  return {view.as<float>(), view.stride(0), view.stride(1), view.stride(2)};
}

// The [B, H, T, 4] statistics: one AttentionRowStats per row.
template <typename T>
struct StatRows {
  T* data = nullptr;
  int64_t batch_stride = 0, head_stride = 0, token_stride = 0;

  T* row(int64_t b, int64_t h, int64_t t) const {
    return data + b * batch_stride + h * head_stride + t * token_stride;
  }
};
inline StatRows<float> stat_rows_of(const TensorView& view) {
  if (!view) {
    return {};
  }
  return {view.as<float>(), view.stride(0), view.stride(1), view.stride(2)};
}
inline StatRows<const float> stat_rows_of(const ConstTensorView& view) {
  return {view.as<float>(), view.stride(0), view.stride(1), view.stride(2)};
}

struct KeyMask {
  const uint8_t* data = nullptr;  // nullptr: every key may be attended to
  int64_t batch_stride = 0, token_stride = 0;
};
inline KeyMask key_mask_of(const ConstTensorView& view) {
  if (!view) {
    return {};
  }
  return {view.as<uint8_t>(), view.stride(0), view.stride(1)};
}

// Writes the indices of the keys that may be attended to, in order; returns how many there are.
// All further work is done on these keys alone: a masked key is never read.
inline int64_t collect_keys(const KeyMask& mask, int64_t b, int64_t tokens, int32_t* index) {
  int64_t n = 0;
  for (int64_t j = 0; j < tokens; ++j) {
    if (mask.data == nullptr || mask.data[b * mask.batch_stride + j * mask.token_stride] != 0) {
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

void forward(const ExecutionContext& ctx, const AttentionForwardArgs& args);
void backward(const ExecutionContext& ctx, const AttentionBackwardArgs& args);

}  // namespace stemfabric::attention_cpu
