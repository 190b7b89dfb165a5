// Moving rows of a head between memory and shared memory or registers, four elements at a time
// where addresses allow.
#pragma once

#include "kernels/attention/attention_device.cuh"

namespace stemfabric::attention::forward {

__device__ __forceinline__ float4 load4(const float* x) {
  return *reinterpret_cast<const float4*>(x);
}
template <int kWidth>
__device__ __forceinline__ void load_vector(const float* from, float (&to)[kWidth]) {
  if constexpr (kWidth == 4) {
    const float4 x = load4(from);
    to[0] = x.x, to[1] = x.y, to[2] = x.z, to[3] = x.w;
  } else {
    const auto x = *reinterpret_cast<const float2*>(from);
    to[0] = x.x, to[1] = x.y;
  }
}
template <int kWidth>
__device__ __forceinline__ void store_vector(float* to, const float (&from)[kWidth]) {
  if constexpr (kWidth == 4) {
    *reinterpret_cast<float4*>(to) = make_float4(from[0], from[1], from[2], from[3]);
  } else {
    *reinterpret_cast<float2*>(to) = make_float2(from[0], from[1]);
  }
}

// Copies kCount rows of a head to shared memory, by a block of kThreads threads; zeros for rows
// that are not `open` (these are not read) and for columns beyond the head dimension.
template <int kThreads, int kCount, int kDim, int kStride, typename Open>
__device__ __forceinline__ void load_rows(const float* head, int64_t token_stride, int64_t first,
                                          int dim, bool vectors, float* to, Open open) {
  const int thread = static_cast<int>(threadIdx.x);
  const float* from = head + first * token_stride;
  if (vectors) {
    constexpr int kPerRow = kDim / 4;
    SF_UNROLL
    for (int n = 0; n < kCount * kPerRow; n += kThreads) {
      const int row = (n + thread) / kPerRow;
      const int e = (n + thread) % kPerRow * 4;
      float4 x = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      if (e < dim && open(row)) {
        x = load4(from + row * token_stride + e);
      }
      *reinterpret_cast<float4*>(to + row * kStride + e) = x;
    }
  } else {
    for (int n = thread; n < kCount * kDim; n += kThreads) {
      const int row = n / kDim;
      const int e = n % kDim;
      to[row * kStride + e] = e < dim && open(row) ? from[row * token_stride + e] : 0.0f;
    }
  }
}

}  // namespace stemfabric::attention::forward
