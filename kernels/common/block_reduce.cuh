// Sums over a warp and over a block, in a fixed order.
#pragma once

#include "kernels/common/launch.cuh"

namespace stemfabric {

inline constexpr int kWarpLanes = 32;
inline constexpr unsigned kFullWarp = 0xFFFFFFFFu;

// The sum over the lanes of a warp (or over segments of `Width` lanes), in every lane.
template <int Width = kWarpLanes, typename T>
__device__ __forceinline__ T warp_sum(T value) {
  for (int offset = Width / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(kFullWarp, value, offset);
  }
  return value;
}
template <int Width = kWarpLanes, typename T>
__device__ __forceinline__ T warp_max(T value) {
  for (int offset = Width / 2; offset > 0; offset /= 2) {
    const T other = __shfl_xor_sync(kFullWarp, value, offset);
    value = other > value ? other : value;
  }
  return value;
}

// The sum over a block of Threads threads (x only), in every thread. May be called repeatedly with
// the same storage.
template <int Threads, typename T>
struct BlockSum {
  static_assert(Threads % kWarpLanes == 0 && Threads / kWarpLanes <= kWarpLanes);
  T partial[Threads / kWarpLanes];

  __device__ __forceinline__ T operator()(T value) {
    value = warp_sum(value);
    const int warp = static_cast<int>(threadIdx.x) / kWarpLanes;
    __syncthreads();  // an earlier call may still be reading
    if (threadIdx.x % kWarpLanes == 0) {
      partial[warp] = value;
    }
    __syncthreads();
    T total = partial[0];
    for (int w = 1; w < Threads / kWarpLanes; ++w) {
      total += partial[w];
    }
    return total;
  }
};

}  // namespace stemfabric
