// Bound by memory: the loss reads prediction, target and mask once and writes the gradient once (13
// bytes per element, 11 if that is bf16; rows whose key is absent are not read), the count reads
// one byte. A thread of the loss takes four elements at a time, one of the count sixteen, where all
// rows are aligned, else one; it has eight such units or more, so that adding up a block costs
// little beside them.
//
// Sums in float64: of a thread in the order of its walk, of a block in a fixed tree, to the
// workspace, then of a stem's blocks (at most 256) by one block. The launch depends on shapes and
// alignment only, and not on whether a gradient is wanted.
#include "kernels/common/block_reduce.cuh"
#include "kernels/common/element.h"
#include "kernels/common/vector.cuh"
#include "kernels/stem_loss/stem_loss_cuda.h"
#include "kernels/stem_loss/stem_walk.cuh"

namespace stemfabric::cuda {
namespace {

static_assert(kWalkBlocks == kWalkThreads, "one thread per block's sum in the second stage");

struct CountParameters {
  WalkShape walk;
  Rows<const uint8_t> mask;
  const uint8_t* key_mask;
  int64_t* parts;  // [S, blocks]
};

__device__ __forceinline__ bool key_present(const uint8_t* key_mask, const WalkShape& walk,
                                            const WalkPosition& at) {
  return key_mask == nullptr || key_mask[at.b * walk.tokens + at.t] != 0;
}

__device__ __forceinline__ int non_zero_bytes(unsigned x) {
  constexpr unsigned kLow = 0x7F7F7F7Fu;
  return __popc((((x & kLow) + kLow) | x) & ~kLow);
}

template <int kWidth>
__device__ __forceinline__ int non_zero(const uint8_t* mask, int n) {
  if constexpr (kWidth == 16) {
    if (n >= 16) {
      const uint4 m = *reinterpret_cast<const uint4*>(mask);
      return non_zero_bytes(m.x) + non_zero_bytes(m.y) + non_zero_bytes(m.z) + non_zero_bytes(m.w);
    }
  }
  if constexpr (kWidth == 4) {
    if (n >= 4) {
      return non_zero_bytes(*reinterpret_cast<const unsigned*>(mask));
    }
  }
  int count = 0;
  for (int i = 0; i < kWidth && i < n; ++i) {
    count += mask[i] != 0 ? 1 : 0;
  }
  return count;
}

// kWidth = 0: there is no mask, a unit is a whole row.
template <int kWidth>
__global__ void __launch_bounds__(kWalkThreads) stem_count_kernel(CountParameters p) {
  const int s = static_cast<int>(blockIdx.y);
  int64_t count = 0;
  for (WalkPosition at = walk_begin(p.walk); at.b < p.walk.batch; walk_on(at, p.walk)) {
    if (!key_present(p.key_mask, p.walk, at)) {
      continue;
    }
    if constexpr (kWidth == 0) {
      count += p.walk.columns;
    } else {
      const int column = at.unit * kWidth;
      count += non_zero<kWidth>(p.mask.at(s, at) + column, p.walk.columns - column);
    }
  }
  auto& sum = shared_storage<BlockSum<kWalkThreads, int64_t>>();
  count = sum(count);
  if (threadIdx.x == 0) {
    p.parts[blockIdx.y * gridDim.x + blockIdx.x] = count;
  }
}

__global__ void __launch_bounds__(kWalkThreads)
    stem_count_add_kernel(const int64_t* parts, int blocks, double* count) {
  const int i = static_cast<int>(threadIdx.x);
  auto& sum = shared_storage<BlockSum<kWalkThreads, int64_t>>();
  const int64_t total = sum(i < blocks ? parts[blockIdx.x * blocks + i] : int64_t{0});
  if (i == 0) {
    count[blockIdx.x] += static_cast<double>(total);
  }
}

struct Sums {
  double loss, weighted;
};
struct SumsStorage {
  BlockSum<kWalkThreads, double> loss, weighted;
};
__device__ __forceinline__ Sums block_sums(const Sums& mine) {
  auto& shared = shared_storage<SumsStorage>();
  const double loss = shared.loss(mine.loss);
  return {loss, shared.weighted(mine.weighted)};
}

// T: the element type of the gradient.
template <typename T>
struct LossParameters {
  WalkShape walk;
  Rows<const float> prediction, target;
  Rows<const uint8_t> mask;
  Rows<T> gradient;
  bool gradient_aligned;
  const uint8_t* key_mask;
  const float* weight;  // [B, S]
  const double* count;  // [S]
  Sums* parts;          // [S, blocks]
};

// The first n elements, if fewer than kWidth are left of the row; the others are 0.
template <int kWidth>
__device__ __forceinline__ FloatVector<kWidth> load(const float* from, int n) {
  if (n >= kWidth) {
    return load_vector<kWidth>(from);
  }
  FloatVector<kWidth> v = {};
  for (int i = 0; i < kWidth - 1; ++i) {
    v.lane[i] = i < n ? from[i] : 0.0f;
  }
  return v;
}

// A bit per element of the unit.
template <int kWidth>
__device__ __forceinline__ unsigned load_mask(const uint8_t* from, int n) {
  unsigned present = 0;
  if constexpr (kWidth == 4) {
    if (n >= 4) {
      const unsigned word = *reinterpret_cast<const unsigned*>(from);
      for (int i = 0; i < 4; ++i) {
        present |= (word >> (8 * i) & 0xFFu) != 0 ? 1u << i : 0u;
      }
      return present;
    }
  }
  for (int i = 0; i < kWidth; ++i) {
    present |= i < n && from[i] != 0 ? 1u << i : 0u;
  }
  return present;
}

template <int kWidth, typename T>
__device__ __forceinline__ void store(T* to, int n, bool aligned, const FloatVector<kWidth>& v) {
  if (n >= kWidth && aligned) {
    store_vector(to, v);
    return;
  }
  for (int i = 0; i < kWidth; ++i) {
    if (i < n) {
      store_vector(to + i, FloatVector<1>{v.lane[i]});
    }
  }
}

// prediction − target where present, else 0, whatever the absent elements hold.
template <int kWidth, typename T>
__device__ __forceinline__ FloatVector<kWidth> differences(const LossParameters<T>& p, int s,
                                                           const WalkPosition& at, int column,
                                                           int n) {
  auto difference = load<kWidth>(p.prediction.at(s, at) + column, n);
  const auto target = load<kWidth>(p.target.at(s, at) + column, n);
  const unsigned present =
      p.mask.data != nullptr ? load_mask<kWidth>(p.mask.at(s, at) + column, n) : ~0u;
  for (int i = 0; i < kWidth; ++i) {
    difference.lane[i] = (present >> i & 1u) != 0 ? difference.lane[i] - target.lane[i] : 0.0f;
  }
  return difference;
}

template <int kWidth, typename T>
__global__ void __launch_bounds__(kWalkThreads) stem_loss_kernel(LossParameters<T> p) {
  const int s = static_cast<int>(blockIdx.y);
  const double count = p.count[s];
  Sums sums = {0, 0};
  int sample = -1;  // that weight and scale are of
  float weight = 1;
  float scale = 0;
  for (WalkPosition at = walk_begin(p.walk); at.b < p.walk.batch; walk_on(at, p.walk)) {
    if (at.b != sample) {
      sample = at.b;
      weight = p.weight != nullptr ? p.weight[int64_t{sample} * gridDim.y + s] : 1.0f;
      scale = count > 0 ? static_cast<float>(2 * static_cast<double>(weight) / count) : 0.0f;
    }
    const int column = at.unit * kWidth;
    const int n = p.walk.columns - column;  // what is left of the row
    FloatVector<kWidth> v = {};
    if (key_present(p.key_mask, p.walk, at)) {
      v = differences<kWidth>(p, s, at, column, n);
    }
    double squares = 0;
    for (float& lane : v.lane) {
      const auto wide = static_cast<double>(lane);
      squares += wide * wide;
      lane *= scale;
    }
    sums.loss += squares;
    sums.weighted += static_cast<double>(weight) * squares;
    if (p.gradient.data != nullptr) {
      store<kWidth>(p.gradient.at(s, at) + column, n, p.gradient_aligned, v);
    }
  }
  sums = block_sums(sums);
  if (threadIdx.x == 0) {
    p.parts[blockIdx.y * gridDim.x + blockIdx.x] = sums;
  }
}

__global__ void __launch_bounds__(kWalkThreads)
    stem_loss_add_kernel(const Sums* parts, int blocks, const double* count, double* loss,
                         double* weighted) {
  const int i = static_cast<int>(threadIdx.x);
  const Sums sums = block_sums(i < blocks ? parts[blockIdx.x * blocks + i] : Sums{0, 0});
  const double n = count[blockIdx.x];
  if (i == 0 && n > 0) {
    loss[blockIdx.x] += sums.loss / n;
    weighted[blockIdx.x] += sums.weighted / n;
  }
}

dim3 walk_grid(const WalkShape& walk, int64_t stems) {
  return {static_cast<unsigned>(walk.blocks), grid_size(stems)};
}

template <int kWidth>
void count_parts(const ExecutionContext& ctx, CountParameters p, int64_t stems) {
  launch(ctx,
         {.kernel = "stem_count_kernel", .grid = walk_grid(p.walk, stems), .block = kWalkThreads},
         stem_count_kernel<kWidth>, p);
}

template <int kWidth, typename T>
void loss_parts(const ExecutionContext& ctx, const LossParameters<T>& p, int64_t stems) {
  launch(ctx,
         {.kernel = "stem_loss_kernel", .grid = walk_grid(p.walk, stems), .block = kWalkThreads},
         stem_loss_kernel<kWidth, T>, p);
}

template <typename T>
void loss(const ExecutionContext& ctx, const StemLossArgs& args) {
  const int64_t stems = args.prediction.dim(0);
  LossParameters<T> p = {.walk = {},
                         .prediction = rows_of<float>(args.prediction),
                         .target = rows_of<float>(args.target),
                         .mask = rows_of<uint8_t>(args.target_mask),
                         .gradient = rows_of<T>(args.gradient),
                         .gradient_aligned = false,
                         .key_mask = args.key_mask ? args.key_mask.as<uint8_t>() : nullptr,
                         .weight = args.weight ? args.weight.as<float>() : nullptr,
                         .count = args.count.as<double>(),
                         .parts = nullptr};
  p.gradient_aligned = p.gradient.aligned(4);
  const bool vectors = p.prediction.aligned(4) && p.target.aligned(4) && p.mask.aligned(4);
  p.walk = walk_shape(args.prediction.shape(), vectors ? 4 : 1);
  WorkspaceScope scope(ctx.workspace());
  p.parts = scope.take<Sums>(stems * p.walk.blocks);
  (vectors ? loss_parts<4, T> : loss_parts<1, T>)(ctx, p, stems);
  launch(ctx, {.kernel = "stem_loss_add_kernel", .grid = grid_size(stems), .block = kWalkThreads},
         stem_loss_add_kernel, p.parts, p.walk.blocks, p.count, args.loss.as<double>(),
         args.weighted.as<double>());
}

}  // namespace

void stem_count(const ExecutionContext& ctx, const StemCountArgs& args) {
  const int64_t stems = args.shape[0];
  const auto mask = rows_of<uint8_t>(args.target_mask);
  const bool masked = mask.data != nullptr;
  const int width = masked ? (mask.aligned(16) ? 16 : mask.aligned(4) ? 4 : 1) : 0;
  // Without a mask a row is one unit, however wide.
  CountParameters p = {.walk = walk_shape(args.shape, masked ? width : INT32_MAX),
                       .mask = mask,
                       .key_mask = args.key_mask ? args.key_mask.as<uint8_t>() : nullptr,
                       .parts = nullptr};
  WorkspaceScope scope(ctx.workspace());
  p.parts = scope.take<int64_t>(stems * p.walk.blocks);
  (width == 16  ? count_parts<16>
   : width == 4 ? count_parts<4>
   : width == 1 ? count_parts<1>
                : count_parts<0>)(ctx, p, stems);
  launch(ctx, {.kernel = "stem_count_add_kernel", .grid = grid_size(stems), .block = kWalkThreads},
         stem_count_add_kernel, p.parts, p.walk.blocks, args.count.as<double>());
}

void stem_loss(const ExecutionContext& ctx, const StemLossArgs& args) {
  with_element(activation_dtype(args.gradient), [&]<typename T>() { loss<T>(ctx, args); });
}

}  // namespace stemfabric::cuda
