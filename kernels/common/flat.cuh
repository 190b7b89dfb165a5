// Element-wise kernels over several contiguous arrays of n floats that lie equally with respect to
// 16-byte boundaries, as slices [begin, end) of aligned blocks do: single elements up to the first
// boundary, vectors of four, single elements again. Arrays that lie differently are taken one
// element at a time (width 1), neighbouring threads neighbouring elements.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/common/launch.cuh"
#include "kernels/common/vector.cuh"

namespace stemfabric {

struct FlatRange {
  int64_t n = 0, head = 0, vectors = 0;
  int width = 1;  // of a vector

  __host__ __device__ int64_t singles() const { return n - width * vectors; }
  // The index of single element i, of vector i.
  __host__ __device__ int64_t single(int64_t i) const { return i < head ? i : width * vectors + i; }
  __host__ __device__ int64_t vector(int64_t i) const { return head + width * i; }
};

template <typename... Rest>
FlatRange flat_range(int64_t n, const float* first, const Rest*... rest) {
  const auto offset = [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16; };
  if (((offset(rest) != offset(first)) || ...)) {
    return {.n = n, .head = 0, .vectors = n, .width = 1};
  }
  const auto misaligned = static_cast<int64_t>(offset(first) / sizeof(float));
  const int64_t head = std::min(n, (4 - misaligned) % 4);
  return {.n = n, .head = head, .vectors = (n - head) / 4, .width = 4};
}

// A block takes a tile of kFlatVectors vectors per thread, the first block the single elements too
// (six at most).
inline constexpr int kFlatThreads = 256;
inline constexpr int kFlatVectors = 4;
inline constexpr int64_t kFlatTile = int64_t{kFlatThreads} * kFlatVectors;
inline int64_t flat_blocks(const FlatRange& range) {
  return std::max<int64_t>(range.n > 0 ? 1 : 0, ceil_div(range.vectors, kFlatTile));
}

// body.at<w>(i) for all elements i, i + 1, … i + w − 1 of this thread. kWidth is range.width.
template <int kWidth, typename Body>
__device__ __forceinline__ void for_flat(const FlatRange& range, const Body& body) {
  if (blockIdx.x == 0 && threadIdx.x < range.singles()) {
    body.template at<1>(range.single(threadIdx.x));
  }
  const int64_t first = blockIdx.x * kFlatTile + threadIdx.x;
  for (int k = 0; k < kFlatVectors; ++k) {
    const int64_t i = first + k * kFlatThreads;
    if (i < range.vectors) {
      body.template at<kWidth>(range.vector(i));
    }
  }
}

}  // namespace stemfabric
