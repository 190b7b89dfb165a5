// Element-wise kernels over contiguous arrays of several element types: a block takes a tile of
// kPerThread elements per thread. One vector access each if all arrays allow it (kWidth =
// kPerThread), else elements a block apart (kWidth = 1), so that the loads of a warp are contiguous
// either way.
#pragma once

#include <cstdint>

#include "kernels/common/launch.cuh"
#include "kernels/common/vector.cuh"

namespace stemfabric {

// body.at<w>(i) for all elements i, i + 1, … i + w − 1 of this thread.
template <int kThreads, int kPerThread, int kWidth, typename Body>
__device__ __forceinline__ void for_tile(int64_t elements, const Body& body) {
  constexpr int64_t kTile = int64_t{kThreads} * kPerThread;
  const int64_t first = blockIdx.x * kTile + int64_t{threadIdx.x} * kWidth;
  if (kWidth == kPerThread && first + kWidth <= elements) {
    body.template at<kWidth>(first);
    return;
  }
  // Misaligned arrays, or the end of the last tile.
  constexpr int kStep = kWidth == 1 ? kThreads : 1;
  for (int k = 0; k < kPerThread; ++k) {
    const int64_t i = first + int64_t{k} * kStep;
    if (i < elements) {
      body.template at<1>(i);
    }
  }
}

}  // namespace stemfabric
