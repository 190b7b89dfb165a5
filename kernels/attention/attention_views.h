// The tensors of attention as its loops walk over them, on CPU and CUDA: base pointers and strides.
// Arguments are already validated.
#pragma once

#include "kernels/attention/attention.h"
#include "kernels/common/philox.h"

namespace stemfabric::attention {

// A [B, T, H, D] tensor seen by rows of D consecutive elements.
template <typename T>
struct Rows {
  T* data = nullptr;
  int64_t batch_stride = 0, token_stride = 0, head_stride = 0;

  SF_HOST_DEVICE T* head(int64_t b, int64_t h) const {
    return data + b * batch_stride + h * head_stride;
  }
};
template <typename T = float>
Rows<const T> rows_of(const ConstTensorView& view) {
  if (!view) {
    return {};
  }
  return {view.as<T>(), view.stride(0), view.stride(1), view.stride(2)};
}
template <typename T = float>
Rows<T> rows_of(const TensorView& view) {
  if (!view) {
    return {};
  }
  return {view.as<T>(), view.stride(0), view.stride(1), view.stride(2)};
}

// The [B, H, T, 4] statistics: one AttentionRowStats per row.
template <typename T>
struct StatRows {
  T* data = nullptr;
  int64_t batch_stride = 0, head_stride = 0, token_stride = 0;

  SF_HOST_DEVICE T* row(int64_t b, int64_t h, int64_t t) const {
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

  SF_HOST_DEVICE bool open(int64_t b, int64_t j) const {
    return data == nullptr || data[b * batch_stride + j * token_stride] != 0;
  }
};
inline KeyMask key_mask_of(const ConstTensorView& view) {
  if (!view) {
    return {};
  }
  return {view.as<uint8_t>(), view.stride(0), view.stride(1)};
}

}  // namespace stemfabric::attention
