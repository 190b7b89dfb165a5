// How the threads of a grid walk over [B, T, O] of one stem: in units of `width` elements of the
// last axis, whole grids at a time, so that neighbouring threads read neighbouring memory. A step
// of the walk is the same three numbers for every thread; nothing is divided in the loop.
#pragma once

#include <algorithm>

#include "kernels/common/launch.cuh"
#include "runtime/core/tensor_view.h"

namespace stemfabric::cuda {

inline constexpr int kWalkThreads = 256;
inline constexpr int kWalkBlocks = 256;  // of one stem, at most; so a block adds up their sums
inline constexpr int64_t kUnitsPerThread = 8;

struct WalkShape {
  int batch = 0, tokens = 0, columns = 0;
  int units = 0;  // of one row
  int blocks = 0;
  int step_b = 0, step_t = 0, step_unit = 0;  // blocks · kWalkThreads units
};

inline WalkShape walk_shape(const Shape& shape, int width) {
  WalkShape w;
  const int64_t units = ceil_div(shape[3], width);
  const int64_t all = shape[1] * shape[2] * units;
  SF_CHECK(shape[1] * shape[2] <= INT32_MAX && shape[3] <= INT32_MAX, "a stem of shape {}",
           shape.to_string());
  w.batch = static_cast<int>(shape[1]);
  w.tokens = static_cast<int>(shape[2]);
  w.columns = static_cast<int>(shape[3]);
  w.units = static_cast<int>(units);
  if (all == 0) {
    return w;
  }
  const int64_t blocks = ceil_div(all, kWalkThreads * kUnitsPerThread);
  w.blocks = static_cast<int>(std::min<int64_t>(blocks, kWalkBlocks));
  const int step = w.blocks * kWalkThreads;
  w.step_unit = step % w.units;
  w.step_t = step / w.units % w.tokens;
  w.step_b = step / w.units / w.tokens;
  return w;
}

struct WalkPosition {
  int b, t, unit;
};
__device__ __forceinline__ WalkPosition walk_begin(const WalkShape& w) {
  const int first = static_cast<int>(blockIdx.x * kWalkThreads + threadIdx.x);
  const int row = first / w.units;
  return {row / w.tokens, row % w.tokens, first % w.units};
}
__device__ __forceinline__ void walk_on(WalkPosition& at, const WalkShape& w) {
  at.b += w.step_b;
  at.t += w.step_t;
  at.unit += w.step_unit;
  if (at.unit >= w.units) {
    at.unit -= w.units;
    ++at.t;
  }
  if (at.t >= w.tokens) {
    at.t -= w.tokens;
    ++at.b;
  }
}

// A tensor [S, B, T, O] with dense rows; null if absent.
template <typename T>
struct Rows {
  T* data = nullptr;
  int64_t stride_s = 0, stride_b = 0, stride_t = 0;

  __device__ __forceinline__ T* at(int s, const WalkPosition& p) const {
    return data + s * stride_s + p.b * stride_b + p.t * stride_t;
  }
  // May vectors of `width` elements be read from the begin of every row?
  bool aligned(int64_t width) const {
    return reinterpret_cast<uintptr_t>(data) % (static_cast<uintptr_t>(width) * sizeof(T)) == 0 &&
           stride_s % width == 0 && stride_b % width == 0 && stride_t % width == 0;
  }
};
template <typename T, bool kConst>
auto rows_of(const BasicTensorView<kConst>& view) {
  using Element = typename BasicTensorView<kConst>::template Element<T>;
  return view ? Rows<Element>{view.template as<T>(), view.stride(0), view.stride(1), view.stride(2)}
              : Rows<Element>{};
}

}  // namespace stemfabric::cuda
