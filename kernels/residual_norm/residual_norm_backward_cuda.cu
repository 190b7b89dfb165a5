// Bound by memory: up to 20 bytes per element (dy, sum and dsum read, dresidual and dx written;
// bf16: 10), each touched once.
//
// A block walks over a group of rows. Rows of up to 256 channels lie in the registers of a warp (or
// of a part of one), rows of up to 1024 in those of a block, which also keep the shares of dgamma
// and dbeta; at the end of the group the block adds up its warps' shares in order and writes one
// row of partial sums to the workspace. Other rows (see residual_norm_rows.cuh) are read twice, the
// second time from the caches, and their shares of dgamma and dbeta are kept in the workspace from
// the start. A second launch adds the partial sums in float64. There are at most kMostGroups
// groups: enough to fill a GPU, and few enough that partial sums are a small part of the traffic.
#include "kernels/common/add_parts.cuh"
#include "kernels/common/element.h"
#include "kernels/residual_norm/residual_norm_cuda.h"
#include "kernels/residual_norm/residual_norm_rows.cuh"

namespace stemfabric::cuda {
namespace {

constexpr int64_t kMostGroups = 1024;
constexpr int kLongRowLanes = 128;  // a block that holds one row in registers
template <int kLanes>
constexpr int kThreadsFor = kLanes == kLongRowLanes ? kLongRowLanes : 256;

template <typename T>
struct Backward {
  const T *dy, *dsum, *sum;  // dy (then sum and the next three too) or dsum absent
  const float *mean, *rstd, *gamma;
  T *dresidual, *dx;  // dx may be absent
  float* parts;       // [groups, 2, C]
  int64_t rows, channels, rows_per_group;
  Dropout dropout;
};

template <int kWidth, typename T>
__device__ __forceinline__ FloatVector<kWidth> xhat_at(const Backward<T>& p, int64_t i, float mean,
                                                       float rstd) {
  auto v = load_vector<kWidth>(p.sum + i);
  for (float& lane : v.lane) {
    lane = (lane - mean) * rstd;
  }
  return v;
}

// Writes dresidual = norm + dsum and what follows from it.
template <int kWidth, bool kDropout, typename T>
__device__ __forceinline__ void finish(const Backward<T>& p, const DropoutRow& drop_row,
                                       int64_t row, int64_t channel, FloatVector<kWidth> norm) {
  const int64_t i = row * p.channels + channel;
  if (p.dsum != nullptr) {
    const auto dsum = load_vector<kWidth>(p.dsum + i);
    for (int k = 0; k < kWidth; ++k) {
      norm.lane[k] += dsum.lane[k];
    }
  }
  store_vector(p.dresidual + i, norm);
  if (p.dx != nullptr) {
    if constexpr (kDropout) {
      norm = drop(p.dropout, drop_row, channel, norm);
    }
    store_vector(p.dx + i, norm);
  }
}

// g becomes the gradient of the norm's input.
template <int kWidth>
__device__ __forceinline__ FloatVector<kWidth> norm_gradient(FloatVector<kWidth> g,
                                                             const FloatVector<kWidth>& xhat,
                                                             float mean_g, float mean_gx,
                                                             float rstd) {
  for (int k = 0; k < kWidth; ++k) {
    g.lane[k] = ((g.lane[k] - mean_g) - xhat.lane[k] * mean_gx) * rstd;
  }
  return g;
}

struct GradientSums {
  float g, gx;
};

template <int kRows, int kChannels>
struct RowsStorage {
  GradientSums warp[2][kLongRowLanes / kWarpLanes];  // of rows that take a block; by turns
  alignas(16) float dgamma[kRows][kChannels];
  alignas(16) float dbeta[kRows][kChannels];
};

// The sums over the kLanes threads that hold a row, in each of them.
template <int kLanes>
__device__ __forceinline__ GradientSums sum_over_row(GradientSums sums, GradientSums* warps) {
  constexpr int kWidth = kLanes < kWarpLanes ? kLanes : kWarpLanes;
  sums = {warp_sum<kWidth>(sums.g), warp_sum<kWidth>(sums.gx)};
  if constexpr (kLanes > kWarpLanes) {
    if (threadIdx.x % kWarpLanes == 0) {
      warps[threadIdx.x / kWarpLanes] = sums;
    }
    __syncthreads();  // the only one: the next row uses the other half of the storage
    sums = warps[0];
    for (int w = 1; w < kLanes / kWarpLanes; ++w) {
      sums.g += warps[w].g;
      sums.gx += warps[w].gx;
    }
  }
  return sums;
}

// kThreads / kLanes rows at a time.
template <typename T, int kLanes, int kChunks, bool kDropout>
__global__ void __launch_bounds__(kThreadsFor<kLanes>)
    residual_norm_backward_kernel(Backward<T> p) {
  constexpr int kThreads = kThreadsFor<kLanes>;
  constexpr int kRows = kThreads / kLanes;
  constexpr int kChunk = 4 * kLanes;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int slot = static_cast<int>(threadIdx.x) / kLanes;
  const auto channel = [&](int j) { return int64_t{4} * lane + int64_t{j} * kChunk; };
  const int64_t first = blockIdx.x * p.rows_per_group;
  const int64_t end = min(p.rows, first + p.rows_per_group);
  const auto n = static_cast<float>(p.channels);
  FloatVector<4> dgamma[kChunks] = {};
  FloatVector<4> dbeta[kChunks] = {};
  auto& shared = shared_storage<RowsStorage<kRows, kChunk>>();
  int turn = 0;
  for (int64_t begin = first; begin < end; begin += kRows) {
    // Channels and rows beyond the end count as 0 and are not stored; their lanes still shuffle.
    const int64_t row = begin + slot;
    const auto inside = [&](int j) { return row < end && channel(j) < p.channels; };
    const float mean = row < end ? p.mean[row] : 0.0f;
    const float rstd = row < end ? p.rstd[row] : 0.0f;
    FloatVector<4> g[kChunks];  // dy at first
    FloatVector<4> xhat[kChunks];
    for (int j = 0; j < kChunks; ++j) {
      const int64_t i = row * p.channels + channel(j);
      g[j] = inside(j) ? load_vector<4>(p.dy + i) : FloatVector<4>{};
      xhat[j] = inside(j) ? load_vector<4>(p.sum + i) : FloatVector<4>{};
    }
    GradientSums sums = {0, 0};
    for (int j = 0; j < kChunks; ++j) {
      const auto gamma = inside(j) ? load_vector<4>(p.gamma + channel(j)) : FloatVector<4>{};
      for (int k = 0; k < 4; ++k) {
        const float dy = g[j].lane[k];
        const float x = (xhat[j].lane[k] - mean) * rstd;
        dgamma[j].lane[k] += dy * x;
        dbeta[j].lane[k] += dy;
        xhat[j].lane[k] = x;
        g[j].lane[k] = dy * gamma.lane[k];
        sums.g += g[j].lane[k];
        sums.gx += g[j].lane[k] * x;
      }
    }
    sums = sum_over_row<kLanes>(sums, shared.warp[turn]);
    turn = 1 - turn;
    const float mean_g = sums.g / n;
    const float mean_gx = sums.gx / n;
    const DropoutRow drop_row = kDropout ? dropout_row(p.dropout, row) : DropoutRow{};
    for (int j = 0; j < kChunks; ++j) {
      if (inside(j)) {
        finish<4, kDropout>(p, drop_row, row, channel(j),
                            norm_gradient(g[j], xhat[j], mean_g, mean_gx, rstd));
      }
    }
  }
  // The block's partial sums, a chunk of channels at a time.
  for (int j = 0; j < kChunks; ++j) {
    __syncthreads();  // the chunk before is still being read
    store_vector(&shared.dgamma[slot][4 * lane], dgamma[j]);
    store_vector(&shared.dbeta[slot][4 * lane], dbeta[j]);
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < 2 * kChunk; i += kThreads) {
      const int c = i % kChunk;
      const int64_t to = int64_t{j} * kChunk + c;
      float sum = 0;
      for (int s = 0; s < kRows; ++s) {
        sum += i < kChunk ? shared.dgamma[s][c] : shared.dbeta[s][c];
      }
      if (to < p.channels) {
        p.parts[(2 * int64_t{blockIdx.x} + (i < kChunk ? 0 : 1)) * p.channels + to] = sum;
      }
    }
  }
}

// dy and xhat of one row: its share of dgamma and dbeta, and the sums of g and g · xhat. A thread
// owns the same channels of every row, so that nothing else writes to its partial sums.
template <int kWidth, typename T>
__device__ __forceinline__ void add_row(const Backward<T>& p, int64_t row, int64_t first,
                                        int64_t step, bool first_of_group, GradientSums& sums) {
  float* dgamma = p.parts + 2 * int64_t{blockIdx.x} * p.channels;
  float* dbeta = dgamma + p.channels;
  for (int64_t c = first; c < p.channels; c += step) {
    const int64_t i = row * p.channels + c;
    const auto dy = load_vector<kWidth>(p.dy + i);
    const auto xhat = xhat_at<kWidth>(p, i, p.mean[row], p.rstd[row]);
    const auto gamma = load_vector<kWidth>(p.gamma + c);
    auto to_gamma = first_of_group ? FloatVector<kWidth>{} : load_vector<kWidth>(dgamma + c);
    auto to_beta = first_of_group ? FloatVector<kWidth>{} : load_vector<kWidth>(dbeta + c);
    for (int k = 0; k < kWidth; ++k) {
      const float g = dy.lane[k] * gamma.lane[k];
      sums.g += g;
      sums.gx += g * xhat.lane[k];
      to_gamma.lane[k] += dy.lane[k] * xhat.lane[k];
      to_beta.lane[k] += dy.lane[k];
    }
    store_vector(dgamma + c, to_gamma);
    store_vector(dbeta + c, to_beta);
  }
}

// Rows of any length, one after the other; also without a norm, where dsum is passed on.
template <typename T, int kRowThreads, int kWidth, bool kDropout>
__global__ void __launch_bounds__(kRowThreads) residual_norm_backward_any_kernel(Backward<T> p) {
  constexpr int64_t kStep = kRowThreads * kWidth;
  auto& block_sum = shared_storage<BlockSum<kRowThreads, float>>();
  const int64_t first = int64_t{threadIdx.x} * kWidth;
  const int64_t first_row = blockIdx.x * p.rows_per_group;
  const int64_t end = min(p.rows, first_row + p.rows_per_group);
  for (int64_t row = first_row; row < end; ++row) {
    const DropoutRow drop_row = kDropout ? dropout_row(p.dropout, row) : DropoutRow{};
    if (p.dy == nullptr) {
      for (int64_t c = first; c < p.channels; c += kStep) {
        finish<kWidth, kDropout>(p, drop_row, row, c, {});
      }
      continue;
    }
    GradientSums sums = {0, 0};
    add_row<kWidth>(p, row, first, kStep, row == first_row, sums);
    const auto n = static_cast<float>(p.channels);
    const float mean_g = block_sum(sums.g) / n;
    const float mean_gx = block_sum(sums.gx) / n;
    const float rstd = p.rstd[row];
    for (int64_t c = first; c < p.channels; c += kStep) {
      const int64_t i = row * p.channels + c;
      auto g = load_vector<kWidth>(p.dy + i);
      const auto gamma = load_vector<kWidth>(p.gamma + c);
      for (int k = 0; k < kWidth; ++k) {
        g.lane[k] *= gamma.lane[k];
      }
      const auto xhat = xhat_at<kWidth>(p, i, p.mean[row], rstd);
      finish<kWidth, kDropout>(p, drop_row, row, c, norm_gradient(g, xhat, mean_g, mean_gx, rstd));
    }
  }
}

// Cuts the rows into groups, of a multiple of `rows_at_once` rows each, and returns their number.
template <typename T>
int64_t cut(Backward<T>& p, int64_t rows_at_once) {
  p.rows_per_group = rows_at_once * ceil_div(p.rows, rows_at_once * kMostGroups);
  return ceil_div(p.rows, p.rows_per_group);
}

// Launches `kernel` on groups of rows, and the sum over the groups.
template <typename T>
void run_groups(const ExecutionContext& ctx, const ResidualNormBackwardArgs& args, const char* name,
                void (*kernel)(Backward<T>), unsigned threads, int64_t rows_at_once,
                Backward<T> p) {
  const int64_t groups = cut(p, rows_at_once);
  WorkspaceScope scope(ctx.workspace());
  if (p.dy != nullptr) {
    p.parts = scope.take<float>(groups * 2 * p.channels);
  }
  launch(ctx, {.kernel = name, .grid = grid_size(groups), .block = threads}, kernel, p);
  if (p.dy != nullptr) {
    add_parts(ctx, p.parts, groups, 2 * p.channels, args.dgamma.as<float>(), p.channels,
              args.dbeta.as<float>());
  }
}

// body(RowShape) with the smallest shape that holds the channels.
template <typename Body>
void with_row_shape(int64_t channels, const Body& body) {
  if (channels <= 32) {
    body(RowShape<8, 1>());
  } else if (channels <= 64) {
    body(RowShape<16, 1>());
  } else if (channels <= 128) {
    body(RowShape<32, 1>());
  } else if (channels <= 256) {
    body(RowShape<32, 2>());
  } else if (channels <= 512) {
    body(RowShape<kLongRowLanes, 1>());
  } else {
    body(RowShape<kLongRowLanes, 2>());
  }
}

template <bool kDropout, typename T>
void run_backward(const ExecutionContext& ctx, const ResidualNormBackwardArgs& args,
                  const Backward<T>& p) {
  const bool wide =
      p.channels % 4 == 0 && aligned_for<4>(p.dy, p.dsum, p.sum, p.gamma, p.dresidual, p.dx);
  if (wide && p.dy != nullptr && p.channels <= kMostChannelsInRegisters) {
    with_row_shape(p.channels, [&](auto shape) {
      constexpr int kThreads = kThreadsFor<shape.kLanes>;
      run_groups(ctx, args, "residual_norm_backward_kernel",
                 residual_norm_backward_kernel<T, shape.kLanes, shape.kChunks, kDropout>, kThreads,
                 kThreads / shape.kLanes, p);
    });
    return;
  }
  const char* name = "residual_norm_backward_any_kernel";
  if (p.channels > kMostChannelsInRegisters) {
    run_groups(ctx, args, name,
               wide ? residual_norm_backward_any_kernel<T, kLongRowThreads, 4, kDropout>
                    : residual_norm_backward_any_kernel<T, kLongRowThreads, 1, kDropout>,
               kLongRowThreads, 1, p);
  } else {
    run_groups(ctx, args, name,
               wide ? residual_norm_backward_any_kernel<T, kWarpLanes, 4, kDropout>
                    : residual_norm_backward_any_kernel<T, kWarpLanes, 1, kDropout>,
               kWarpLanes, 1, p);
  }
}

template <typename T>
void backward(const ExecutionContext& ctx, const ResidualNormBackwardArgs& args) {
  const int64_t rows = args.dresidual.dim(0);
  if (rows == 0) {
    return;
  }
  const bool norm = static_cast<bool>(args.dy);
  const Backward<T> p = {.dy = norm ? args.dy.as<T>() : nullptr,
                         .dsum = args.dsum ? args.dsum.as<T>() : nullptr,
                         .sum = norm ? args.sum.as<T>() : nullptr,
                         .mean = norm ? args.mean.as<float>() : nullptr,
                         .rstd = norm ? args.rstd.as<float>() : nullptr,
                         .gamma = norm ? args.gamma.as<float>() : nullptr,
                         .dresidual = args.dresidual.as<T>(),
                         .dx = args.dx ? args.dx.as<T>() : nullptr,
                         .rows = rows,
                         .channels = args.dresidual.dim(1),
                         .dropout = dropout_of(args.dropout, args.tokens_per_sample, rows)};
  if (p.dropout.threshold > 0 && p.dx != nullptr) {
    run_backward<true>(ctx, args, p);
  } else {
    run_backward<false>(ctx, args, p);
  }
}

}  // namespace

void residual_norm_backward(const ExecutionContext& ctx, const ResidualNormBackwardArgs& args) {
  with_element(args.dresidual.dtype(), [&]<typename T>() { backward<T>(ctx, args); });
}

}  // namespace stemfabric::cuda
