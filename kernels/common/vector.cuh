// A few elements that one instruction loads or stores, as floats in registers. Kernels take the
// width as a template parameter: four, or kVectorOf<T> (16 bytes), where every address and size
// allows it, else 1.
#pragma once

#include <cstdint>

#include "kernels/common/launch.cuh"
#include "runtime/core/bf16.h"

namespace stemfabric {

template <typename T>
inline constexpr int kVectorOf = static_cast<int>(16 / sizeof(T));

// Eight floats are two accesses.
template <int kWidth>
struct alignas(kWidth * sizeof(float) < 16 ? kWidth * sizeof(float) : 16) FloatVector {
  float lane[kWidth];
};

template <int kWidth>
__device__ __forceinline__ FloatVector<kWidth> load_vector(const float* from) {
  return *reinterpret_cast<const FloatVector<kWidth>*>(from);
}
template <int kWidth>
__device__ __forceinline__ void store_vector(float* to, const FloatVector<kWidth>& v) {
  *reinterpret_cast<FloatVector<kWidth>*>(to) = v;
}

template <int kWidth>
struct [[gnu::may_alias]] alignas(kWidth * sizeof(Bf16)) Bf16Words {
  uint32_t word[kWidth / 2];
};

template <int kWidth>
__device__ __forceinline__ FloatVector<kWidth> load_vector(const Bf16* from) {
  FloatVector<kWidth> v;
  if constexpr (kWidth == 1) {
    v.lane[0] = from_bf16(*from);
  } else {
    const auto words = *reinterpret_cast<const Bf16Words<kWidth>*>(from);
    SF_UNROLL
    for (int i = 0; i < kWidth / 2; ++i) {
      v.lane[2 * i] = low_bf16(words.word[i]);
      v.lane[2 * i + 1] = high_bf16(words.word[i]);
    }
  }
  return v;
}
template <int kWidth>
__device__ __forceinline__ void store_vector(Bf16* to, const FloatVector<kWidth>& v) {
  if constexpr (kWidth == 1) {
    *to = to_bf16(v.lane[0]);
  } else {
    Bf16Words<kWidth> words;
    SF_UNROLL
    for (int i = 0; i < kWidth / 2; ++i) {
      words.word[i] = pack_bf16(v.lane[2 * i], v.lane[2 * i + 1]);
    }
    *reinterpret_cast<Bf16Words<kWidth>*>(to) = words;
  }
}

// What an array of T would keep of these.
template <typename T, int kWidth>
__device__ __forceinline__ FloatVector<kWidth> rounded_to(FloatVector<kWidth> v) {
  if constexpr (sizeof(T) == sizeof(Bf16)) {
    for (float& lane : v.lane) {
      lane = round_to_bf16(lane);
    }
  }
  return v;
}

// May accesses of kWidth elements (of 16 bytes at most) start at all of these? An absent argument
// (nullptr) is no obstacle.
template <int kWidth, typename... Elements>
bool aligned_for(const Elements*... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) %
               (kWidth * sizeof(Elements) < 16 ? kWidth * sizeof(Elements) : 16) ==
           0) &&
          ...);
}

}  // namespace stemfabric
