// Bound by memory: 16 bytes per element in training (x and residual read, sum and y written; bf16:
// 8), each touched once; gamma and beta stay in the caches. Dropout and the norm cost some 40
// instructions per element, about a third of what a GPU does meanwhile.
//
// Rows of up to 1024 channels lie in the registers of a warp, or of a part of one if they are short
// (32 channels: 8 lanes): the statistics take shuffles and no barrier, and all loads of a row are
// under way at once. Other rows (longer ones; lengths or addresses that vectors of four cannot
// take) are read back from `sum`, which the caches still hold, by one warp or by a block.
#include "kernels/common/element.h"
#include "kernels/residual_norm/residual_norm_cuda.h"
#include "kernels/residual_norm/residual_norm_rows.cuh"

namespace stemfabric::cuda {
namespace {

constexpr int kThreads = 256;  // of the kernel that holds rows in registers

template <typename T>
struct Forward {
  const T *x, *residual;  // x may be absent
  const float *gamma, *beta;
  T *sum, *y;          // y may be absent
  float *mean, *rstd;  // both may be absent
  int64_t rows, channels;
  float epsilon;
  Dropout dropout;
};

// residual + dropout(x), as `sum` keeps it: the norm is of what the backward will see.
template <int kWidth, bool kDropout, typename T>
__device__ __forceinline__ FloatVector<kWidth> add_dropped(const Forward<T>& p,
                                                           const DropoutRow& row, int64_t channel,
                                                           FloatVector<kWidth> residual,
                                                           FloatVector<kWidth> x) {
  if constexpr (kDropout) {
    x = drop(p.dropout, row, channel, x);
  }
  for (int k = 0; k < kWidth; ++k) {
    residual.lane[k] += x.lane[k];
  }
  return rounded_to<T>(residual);
}

// A row's statistics. The mean comes in two parts, of which the second is the rounding error of the
// first: it matters where the mean is large beside the deviation.
struct Moments {
  float first_mean, shift, rstd;

  __device__ __forceinline__ Moments(float first, float sum_from_mean, float squares, float n,
                                     float epsilon)
      : first_mean(first), shift(sum_from_mean / n) {
    const float variance = squares / n - shift * shift;
    rstd = 1 / sqrtf((variance < 0 ? 0.0f : variance) + epsilon);
  }
};

template <int kWidth, typename T>
__device__ __forceinline__ void store_normalised(const Forward<T>& p, const Moments& moments,
                                                 int64_t row, int64_t channel,
                                                 FloatVector<kWidth> v) {
  const auto gamma = load_vector<kWidth>(p.gamma + channel);
  const auto beta = load_vector<kWidth>(p.beta + channel);
  for (int k = 0; k < kWidth; ++k) {
    const float xhat = ((v.lane[k] - moments.first_mean) - moments.shift) * moments.rstd;
    v.lane[k] = xhat * gamma.lane[k] + beta.lane[k];
  }
  store_vector(p.y + row * p.channels + channel, v);
}

template <typename T>
__device__ __forceinline__ void store_moments(const Forward<T>& p, const Moments& moments,
                                              int64_t row) {
  if (p.mean != nullptr) {
    p.mean[row] = moments.first_mean + moments.shift;
    p.rstd[row] = moments.rstd;
  }
}

// kThreads / kLanes rows per block.
template <typename T, int kLanes, int kChunks, bool kDropout>
__global__ void __launch_bounds__(kThreads) residual_norm_forward_kernel(Forward<T> p) {
  const int64_t lane = threadIdx.x % kLanes;
  const int64_t row = int64_t{blockIdx.x} * (kThreads / kLanes) + threadIdx.x / kLanes;
  // Channels and rows beyond the end count as 0 and are not stored; their lanes still shuffle.
  const auto channel = [&](int j) { return 4 * (lane + int64_t{j} * kLanes); };
  const auto inside = [&](int j) { return row < p.rows && channel(j) < p.channels; };
  const DropoutRow drop_row = kDropout ? dropout_row(p.dropout, row) : DropoutRow{};
  const auto load = [&](const T* from, FloatVector<4>(&to)[kChunks]) {
    for (int j = 0; j < kChunks; ++j) {
      to[j] = inside(j) ? load_vector<4>(from + row * p.channels + channel(j)) : FloatVector<4>{};
    }
  };
  FloatVector<4> v[kChunks];
  load(p.residual, v);
  if (p.x != nullptr) {
    FloatVector<4> x[kChunks];
    load(p.x, x);
    for (int j = 0; j < kChunks; ++j) {
      v[j] = add_dropped<4, kDropout>(p, drop_row, channel(j), v[j], x[j]);
    }
  }
  if (p.sum != p.residual || p.x != nullptr) {
    for (int j = 0; j < kChunks; ++j) {
      if (inside(j)) {
        store_vector(p.sum + row * p.channels + channel(j), v[j]);
      }
    }
  }
  if (p.y == nullptr) {
    return;
  }
  float total = 0;
  for (int j = 0; j < kChunks; ++j) {
    total += (v[j].lane[0] + v[j].lane[1]) + (v[j].lane[2] + v[j].lane[3]);
  }
  const auto n = static_cast<float>(p.channels);
  const float first_mean = warp_sum<kLanes>(total) / n;
  float from_mean = 0;
  float squares = 0;
  for (int j = 0; j < kChunks; ++j) {
    for (const float value : v[j].lane) {
      const float d = inside(j) ? value - first_mean : 0.0f;
      from_mean += d;
      squares += d * d;
    }
  }
  const Moments moments(first_mean, warp_sum<kLanes>(from_mean), warp_sum<kLanes>(squares), n,
                        p.epsilon);
  for (int j = 0; j < kChunks; ++j) {
    if (inside(j)) {
      store_normalised(p, moments, row, channel(j), v[j]);
    }
  }
  if (row < p.rows && lane == 0) {
    store_moments(p, moments, row);
  }
}

// One row per block, of any length. A thread reads back from `sum` only what it wrote.
template <typename T, int kRowThreads, int kWidth, bool kDropout>
__global__ void __launch_bounds__(kRowThreads) residual_norm_forward_any_kernel(Forward<T> p) {
  constexpr int64_t kStep = kRowThreads * kWidth;
  auto& block_sum = shared_storage<BlockSum<kRowThreads, float>>();
  const int64_t row = blockIdx.x;
  const int64_t first = int64_t{threadIdx.x} * kWidth;
  const DropoutRow drop_row = kDropout ? dropout_row(p.dropout, row) : DropoutRow{};
  T* sum = p.sum + row * p.channels;
  float total = 0;
  for (int64_t c = first; c < p.channels; c += kStep) {
    auto v = load_vector<kWidth>(p.residual + row * p.channels + c);
    if (p.x != nullptr) {
      const auto x = load_vector<kWidth>(p.x + row * p.channels + c);
      v = add_dropped<kWidth, kDropout>(p, drop_row, c, v, x);
    }
    store_vector(sum + c, v);
    for (const float value : v.lane) {
      total += value;
    }
  }
  if (p.y == nullptr) {
    return;
  }
  const auto n = static_cast<float>(p.channels);
  const float first_mean = block_sum(total) / n;
  float from_mean = 0;
  float squares = 0;
  for (int64_t c = first; c < p.channels; c += kStep) {
    for (const float value : load_vector<kWidth>(sum + c).lane) {
      const float d = value - first_mean;
      from_mean += d;
      squares += d * d;
    }
  }
  from_mean = block_sum(from_mean);
  squares = block_sum(squares);
  const Moments moments(first_mean, from_mean, squares, n, p.epsilon);
  for (int64_t c = first; c < p.channels; c += kStep) {
    store_normalised(p, moments, row, c, load_vector<kWidth>(sum + c));
  }
  if (threadIdx.x == 0) {
    store_moments(p, moments, row);
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
    body(RowShape<32, 4>());
  } else {
    body(RowShape<32, 8>());
  }
}

template <bool kDropout, typename T>
void run_forward(const ExecutionContext& ctx, const Forward<T>& p) {
  const bool wide =
      p.channels % 4 == 0 && aligned_for<4>(p.x, p.residual, p.gamma, p.beta, p.sum, p.y);
  if (wide && p.channels <= kMostChannelsInRegisters) {
    with_row_shape(p.channels, [&](auto shape) {
      launch(ctx,
             {.kernel = "residual_norm_forward_kernel",
              .grid = grid_size(ceil_div(p.rows, kThreads / shape.kLanes)),
              .block = kThreads},
             residual_norm_forward_kernel<T, shape.kLanes, shape.kChunks, kDropout>, p);
    });
    return;
  }
  const bool is_long = p.channels > kMostChannelsInRegisters;
  const auto kernel = !is_long ? residual_norm_forward_any_kernel<T, kWarpLanes, 1, kDropout>
                      : wide   ? residual_norm_forward_any_kernel<T, kLongRowThreads, 4, kDropout>
                               : residual_norm_forward_any_kernel<T, kLongRowThreads, 1, kDropout>;
  launch(ctx,
         {.kernel = "residual_norm_forward_any_kernel",
          .grid = grid_size(p.rows),
          .block = static_cast<unsigned>(is_long ? kLongRowThreads : kWarpLanes)},
         kernel, p);
}

template <typename E, typename View>
auto optional(const View& view) {
  return view ? view.template as<E>() : nullptr;
}

template <typename T>
void forward(const ExecutionContext& ctx, const ResidualNormForwardArgs& args) {
  const int64_t rows = args.residual.dim(0);
  const bool norm = static_cast<bool>(args.y);
  const Forward<T> p = {.x = optional<T>(args.x),
                        .residual = args.residual.as<T>(),
                        .gamma = norm ? args.gamma.as<float>() : nullptr,
                        .beta = norm ? args.beta.as<float>() : nullptr,
                        .sum = args.sum.as<T>(),
                        .y = optional<T>(args.y),
                        .mean = norm ? optional<float>(args.mean) : nullptr,
                        .rstd = norm ? optional<float>(args.rstd) : nullptr,
                        .rows = rows,
                        .channels = args.residual.dim(1),
                        .epsilon = args.epsilon,
                        .dropout = dropout_of(args.dropout, args.tokens_per_sample, rows)};
  if (p.dropout.threshold > 0 && p.x != nullptr) {
    run_forward<true>(ctx, p);
  } else {
    run_forward<false>(ctx, p);
  }
}

}  // namespace

void residual_norm_forward(const ExecutionContext& ctx, const ResidualNormForwardArgs& args) {
  with_element(args.residual.dtype(), [&]<typename T>() { forward<T>(ctx, args); });
}

}  // namespace stemfabric::cuda
