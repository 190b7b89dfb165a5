// A few floats that one instruction loads or stores. Kernels take the width as a template
// parameter: 4 where every address and size allows it, else 1.
#pragma once

#include <cstdint>

#include "kernels/common/launch.cuh"

namespace stemfabric {

template <int kWidth>
struct alignas(kWidth * sizeof(float)) FloatVector {
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

// May vectors of four floats start at all of these? An absent argument (nullptr) is no obstacle.
template <typename... Pointers>
bool aligned_for_float4(const Pointers*... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) % sizeof(FloatVector<4>) == 0) && ...);
}

}  // namespace stemfabric
