// Bound by memory: four bytes per element, each read once. A block takes tiles of four float4 per
// thread, whose loads do not wait for each other; up to 1024 blocks walk over the tiles, so that
// their partial results are few enough for one block to add up. What lies before the first 16-byte
// boundary and behind the last one is six elements at most, of the first block.
//
// The order of additions depends on n and on the address modulo 16 only.
#include <algorithm>

#include "kernels/common/block_reduce.cuh"
#include "kernels/common/flat.cuh"
#include "kernels/reduction/sum_squares_cuda.h"

namespace stemfabric::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kVectors = 4;  // of a thread in one tile
constexpr int64_t kTile = int64_t{kThreads} * kVectors;
constexpr int64_t kMaxBlocks = 1024;
constexpr int64_t kNone = INT64_MAX;

struct Partial {
  double sum;
  int64_t non_finite;
  int64_t first;  // index, kNone if all are finite

  __device__ __forceinline__ void add(float x, int64_t index) {
    constexpr unsigned kExponent = 0x7F800000u;
    if ((__float_as_uint(x) & kExponent) == kExponent) {
      ++non_finite;
      first = min(first, index);
    } else {
      sum += static_cast<double>(x) * static_cast<double>(x);
    }
  }
  __device__ __forceinline__ void add(const Partial& other) {
    sum += other.sum;
    non_finite += other.non_finite;
    first = min(first, other.first);
  }
};

// All threads' partials, in thread 0; called once per kernel.
__device__ __forceinline__ Partial combine(Partial p) {
  constexpr int kWarps = kThreads / kWarpLanes;
  struct Storage {
    Partial warp[kWarps];
  };
  auto& shared = shared_storage<Storage>();
  for (int offset = kWarpLanes / 2; offset > 0; offset /= 2) {
    p.add({__shfl_xor_sync(kFullWarp, p.sum, offset),
           __shfl_xor_sync(kFullWarp, p.non_finite, offset),
           __shfl_xor_sync(kFullWarp, p.first, offset)});
  }
  if (threadIdx.x % kWarpLanes == 0) {
    shared.warp[threadIdx.x / kWarpLanes] = p;
  }
  __syncthreads();
  p = shared.warp[0];
  for (int w = 1; w < kWarps; ++w) {
    p.add(shared.warp[w]);
  }
  return p;
}

__global__ void __launch_bounds__(kThreads)
    sum_squares_kernel(const float* x, FlatRange range, Partial* parts) {
  Partial p = {0, 0, kNone};
  if (blockIdx.x == 0 && threadIdx.x < range.singles()) {
    const int64_t i = range.single(threadIdx.x);
    p.add(x[i], i);
  }
  const int64_t grid_step = kTile * gridDim.x;
  for (int64_t tile = kTile * blockIdx.x; tile < range.vectors; tile += grid_step) {
    FloatVector<4> v[kVectors];
    for (int k = 0; k < kVectors; ++k) {
      const int64_t i = tile + k * kThreads + threadIdx.x;
      v[k] = i < range.vectors ? load_vector<4>(x + range.vector(i)) : FloatVector<4>{};
    }
    for (int k = 0; k < kVectors; ++k) {
      const int64_t first = range.vector(tile + k * kThreads + threadIdx.x);
      for (int lane = 0; lane < 4; ++lane) {
        p.add(v[k].lane[lane], first + lane);
      }
    }
  }
  p = combine(p);
  if (threadIdx.x == 0) {
    parts[blockIdx.x] = p;
  }
}

__global__ void __launch_bounds__(kThreads)
    sum_squares_total_kernel(const Partial* parts, int blocks, double* result) {
  Partial p = {0, 0, kNone};
  for (int i = static_cast<int>(threadIdx.x); i < blocks; i += kThreads) {
    p.add(parts[i]);
  }
  p = combine(p);
  if (threadIdx.x == 0) {
    result[0] = p.sum;
    result[1] = static_cast<double>(p.non_finite);
    result[2] = p.first == kNone ? -1.0 : static_cast<double>(p.first);
  }
}

}  // namespace

void sum_squares_into(const ExecutionContext& ctx, const SumSquaresArgs& args) {
  const auto* x = args.x.as<float>();
  const FlatRange range = flat_range(args.x.elements(), x);
  const int64_t blocks = std::clamp<int64_t>(ceil_div(range.vectors, kTile), 1, kMaxBlocks);
  WorkspaceScope scope(ctx.workspace());
  auto* parts = scope.take<Partial>(blocks);
  launch(ctx, {.kernel = "sum_squares_kernel", .grid = grid_size(blocks), .block = kThreads},
         sum_squares_kernel, x, range, parts);
  launch(ctx, {.kernel = "sum_squares_total_kernel", .grid = 1, .block = kThreads},
         sum_squares_total_kernel, parts, static_cast<int>(blocks), args.result.as<double>());
}

}  // namespace stemfabric::cuda
