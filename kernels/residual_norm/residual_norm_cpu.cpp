#include "kernels/residual_norm/residual_norm_cpu.h"

#include <algorithm>
#include <cmath>

#include "kernels/common/parallel_for.h"
#include "kernels/common/widened.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/residual_norm/residual_norm_cpu.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "kernels/common/philox_simd-inl.h"
#include "kernels/common/simd-inl.h"

#ifndef SF_KERNELS_RESIDUAL_NORM_CPU_TYPES
#define SF_KERNELS_RESIDUAL_NORM_CPU_TYPES
namespace stemfabric::cpu {

// The dropout of one row; threshold 0 keeps everything as it is.
struct RowDropout {
  uint32_t threshold = 0;
  float scale = 1;
  PhiloxKey key{};
  uint32_t token = 0;
  uint32_t sample = 0;
};

struct ForwardRow {
  const float *x, *residual, *gamma, *beta;
  float *sum, *y, *mean, *rstd;
  float epsilon;
  int64_t channels;
};

struct BackwardRow {
  const float *dy, *dsum, *sum, *gamma;
  float mean, rstd;
  float *dresidual, *dx, *dgamma, *dbeta;  // dgamma, dbeta: partial sums of a block of rows
  int64_t channels;
};

}  // namespace stemfabric::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace stemfabric::HWY_NAMESPACE {

constexpr int64_t kChunk = 1024;        // channels whose random lanes are held at a time
constexpr int64_t kMostLanes = 8 * 16;  // written at once: 8 for each word of the widest vector

// The 16-bit lanes of channels first … first+n-1, rounded up to whole vectors of counters. In
// memory the four words of a counter are its eight lanes in order (little-endian).
HWY_INLINE void random_lanes(const cpu::RowDropout& drop, int64_t first, int64_t n,
                             uint16_t* HWY_RESTRICT lanes) {
  const auto counter0 = static_cast<uint32_t>(first / 8);
#if HWY_TARGET == HWY_SCALAR
  for (int64_t i = 0; i < n; i += 8) {
    const PhiloxCounter bits = philox4x32_10(
        {{counter0 + static_cast<uint32_t>(i / 8), drop.token, drop.sample, 0}}, drop.key);
    for (int k = 0; k < 8; ++k) {
      lanes[i + k] = static_cast<uint16_t>(philox_lane16(bits, k));
    }
  }
#else
  const WordTag d;
  const auto step = static_cast<int64_t>(8 * hn::Lanes(d));
  auto counter = hn::Iota(d, counter0);
  for (int64_t i = 0; i < n; i += step) {
    const PhiloxVec bits = philox4x32_10(
        PhiloxVec{{counter, hn::Set(d, drop.token), hn::Set(d, drop.sample), hn::Zero(d)}},
        drop.key);
    hn::StoreInterleaved4(bits.word[0], bits.word[1], bits.word[2], bits.word[3], d,
                          reinterpret_cast<uint32_t*>(lanes + i));
    counter = hn::Add(counter, hn::Set(d, static_cast<uint32_t>(step / 8)));
  }
#endif
}

// out = dropout(x), or base + dropout(x). out may be base or x.
template <bool kAddBase>
HWY_INLINE void dropout_row(const cpu::RowDropout& drop, const float* x, const float* base,
                            float* out, int64_t n) {
  HWY_ALIGN uint16_t lanes[kChunk + kMostLanes];
  for (int64_t first = 0; first < n; first += kChunk) {
    const int64_t count = std::min(kChunk, n - first);
    random_lanes(drop, first, count, lanes);
    for_lanes(count, [&](auto d, int64_t i) HWY_ATTR {
      const hn::Rebind<int32_t, decltype(d)> di;
      const hn::Rebind<uint16_t, decltype(d)> du;
      const auto lane = hn::PromoteTo(di, hn::LoadU(du, lanes + i));
      const auto keep = hn::Gt(lane, hn::Set(di, static_cast<int32_t>(drop.threshold) - 1));
      const auto scaled = hn::Mul(hn::LoadU(d, x + first + i), hn::Set(d, drop.scale));
      auto value = hn::IfThenElseZero(hn::RebindMask(d, keep), scaled);
      if constexpr (kAddBase) {
        value = hn::Add(hn::LoadU(d, base + first + i), value);
      }
      hn::StoreU(value, d, out + first + i);
    });
  }
}

HWY_INLINE void sum_row(const cpu::ForwardRow& r, const cpu::RowDropout& drop) {
  if (r.x == nullptr) {
    if (r.sum != r.residual) {
      std::copy_n(r.residual, r.channels, r.sum);
    }
  } else if (drop.threshold > 0) {
    dropout_row<true>(drop, r.x, r.residual, r.sum, r.channels);
  } else {
    for_lanes(r.channels, [&](auto d, int64_t i) HWY_ATTR {
      hn::StoreU(hn::Add(hn::LoadU(d, r.residual + i), hn::LoadU(d, r.x + i)), d, r.sum + i);
    });
  }
}

// Two passes around a first mean; the second one also corrects the mean's own rounding, which
// matters when it is large beside the deviation.
void forward_row(const cpu::ForwardRow& r, const cpu::RowDropout& drop) {
  sum_row(r, drop);
  if (r.y == nullptr) {
    return;
  }
  const auto n = static_cast<float>(r.channels);
  const TwoSums total = two_sums(r.channels, [&](auto d, int64_t i, auto& sum, auto&) HWY_ATTR {
    sum = hn::Add(sum, hn::LoadU(d, r.sum + i));
  });
  const float first_mean = total.first / n;
  const TwoSums moments =
      two_sums(r.channels, [&](auto d, int64_t i, auto& sum, auto& squares) HWY_ATTR {
        const auto from_mean = hn::Sub(hn::LoadU(d, r.sum + i), hn::Set(d, first_mean));
        sum = hn::Add(sum, from_mean);
        squares = hn::MulAdd(from_mean, from_mean, squares);
      });
  const float shift = moments.first / n;
  const double variance = static_cast<double>(moments.second) / static_cast<double>(n) -
                          static_cast<double>(shift) * static_cast<double>(shift);
  const auto rstd = static_cast<float>(
      1 / std::sqrt((variance < 0 ? 0.0 : variance) + static_cast<double>(r.epsilon)));
  for_lanes(r.channels, [&](auto d, int64_t i) HWY_ATTR {
    const auto from_mean =
        hn::Sub(hn::Sub(hn::LoadU(d, r.sum + i), hn::Set(d, first_mean)), hn::Set(d, shift));
    const auto xhat = hn::Mul(from_mean, hn::Set(d, rstd));
    hn::StoreU(hn::MulAdd(xhat, hn::LoadU(d, r.gamma + i), hn::LoadU(d, r.beta + i)), d, r.y + i);
  });
  if (r.mean != nullptr) {
    *r.mean = first_mean + shift;
    *r.rstd = rstd;
  }
}

// dresidual from dy and dsum, and this row's share of dgamma and dbeta.
HWY_INLINE void norm_gradient_row(const cpu::BackwardRow& r) {
  const auto xhat_at = [&](auto d, int64_t i) HWY_ATTR {
    return hn::Mul(hn::Sub(hn::LoadU(d, r.sum + i), hn::Set(d, r.mean)), hn::Set(d, r.rstd));
  };
  const TwoSums sums =
      two_sums(r.channels, [&](auto d, int64_t i, auto& sum_g, auto& sum_gx) HWY_ATTR {
        const auto dy = hn::LoadU(d, r.dy + i);
        const auto xhat = xhat_at(d, i);
        const auto g = hn::Mul(dy, hn::LoadU(d, r.gamma + i));
        sum_g = hn::Add(sum_g, g);
        sum_gx = hn::MulAdd(g, xhat, sum_gx);
        hn::StoreU(hn::MulAdd(dy, xhat, hn::LoadU(d, r.dgamma + i)), d, r.dgamma + i);
        hn::StoreU(hn::Add(dy, hn::LoadU(d, r.dbeta + i)), d, r.dbeta + i);
      });
  const float mean_g = sums.first / static_cast<float>(r.channels);
  const float mean_gx = sums.second / static_cast<float>(r.channels);
  for_lanes(r.channels, [&](auto d, int64_t i) HWY_ATTR {
    const auto g = hn::Mul(hn::LoadU(d, r.dy + i), hn::LoadU(d, r.gamma + i));
    const auto inner =
        hn::NegMulAdd(xhat_at(d, i), hn::Set(d, mean_gx), hn::Sub(g, hn::Set(d, mean_g)));
    const auto rstd = hn::Set(d, r.rstd);
    const auto value = r.dsum == nullptr ? hn::Mul(inner, rstd)
                                         : hn::MulAdd(inner, rstd, hn::LoadU(d, r.dsum + i));
    hn::StoreU(value, d, r.dresidual + i);
  });
}

void backward_row(const cpu::BackwardRow& r, const cpu::RowDropout& drop) {
  if (r.dy != nullptr) {
    norm_gradient_row(r);
  } else if (r.dresidual != r.dsum) {
    std::copy_n(r.dsum, r.channels, r.dresidual);
  }
  if (r.dx == nullptr) {
    return;
  }
  if (drop.threshold > 0) {
    dropout_row<false>(drop, r.dresidual, nullptr, r.dx, r.channels);
  } else if (r.dx != r.dresidual) {
    std::copy_n(r.dresidual, r.channels, r.dx);
  }
}

}  // namespace stemfabric::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stemfabric {
HWY_EXPORT(forward_row);
HWY_EXPORT(backward_row);
}  // namespace stemfabric

namespace stemfabric::cpu {
namespace {

constexpr int64_t kRows = 32;  // rows of one task

RowDropout row_dropout(const DropoutConfig& config, int64_t tokens_per_sample, int64_t row) {
  return {.threshold = dropout_threshold(config.p),
          .scale = dropout_scale(config.p),
          .key = config.key,
          .token = static_cast<uint32_t>(row % tokens_per_sample),
          .sample = static_cast<uint32_t>(config.sample0 + row / tokens_per_sample)};
}

template <typename T>
T* row_of(T* data, int64_t row, int64_t channels) {
  return data == nullptr ? nullptr : data + row * channels;
}

// The typed pointer of an optional argument.
const float* optional(const ConstTensorView& view) { return view ? view.as<float>() : nullptr; }
float* optional(const TensorView& view) { return view ? view.as<float>() : nullptr; }

// out += the blocks' partial sums, in order and in float64. parts: [blocks, 2, channels].
void add_parts(const ExecutionContext& ctx, const float* parts, int64_t blocks, int64_t channels,
               float* dgamma, float* dbeta) {
  parallel_for(ctx, 2 * channels, 1024, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t i = begin; i < end; ++i) {
      double sum = 0;
      for (int64_t block = 0; block < blocks; ++block) {
        sum += static_cast<double>(parts[block * 2 * channels + i]);
      }
      float& out = i < channels ? dgamma[i] : dbeta[i - channels];
      out = static_cast<float>(static_cast<double>(out) + sum);
    }
  });
}

// The sum first, which is rounded before its norm is formed.
void forward_bf16(const ExecutionContext& ctx, const ResidualNormForwardArgs& args) {
  ResidualNormForwardArgs sum = args;
  sum.y = {};
  in_float32(ctx, sum, residual_norm_forward, [](Widened& f32, auto& a) {
    f32.input(a.x);
    f32.input(a.residual);
    f32.output(a.sum);
  });
  if (args.y) {
    ResidualNormForwardArgs norm = args;
    norm.x = {};
    norm.residual = args.sum;
    in_float32(ctx, norm, residual_norm_forward, [](Widened& f32, auto& a) {
      f32.input(a.residual);
      f32.output(a.sum);
      f32.output(a.y);
    });
  }
}

}  // namespace

void residual_norm_forward(const ExecutionContext& ctx, const ResidualNormForwardArgs& args) {
  if (args.residual.dtype() == DType::kBF16) {
    return forward_bf16(ctx, args);
  }
  const int64_t c = args.residual.dim(1);
  const ForwardRow first = {.x = optional(args.x),
                            .residual = args.residual.as<float>(),
                            .gamma = optional(args.gamma),
                            .beta = optional(args.beta),
                            .sum = args.sum.as<float>(),
                            .y = optional(args.y),
                            .mean = optional(args.mean),
                            .rstd = optional(args.rstd),
                            .epsilon = args.epsilon,
                            .channels = c};
  parallel_for(ctx, args.residual.dim(0), kRows, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t m = begin; m < end; ++m) {
      ForwardRow row = first;
      row.x = row_of(first.x, m, c);
      row.residual = row_of(first.residual, m, c);
      row.sum = row_of(first.sum, m, c);
      row.y = row_of(first.y, m, c);
      row.mean = row_of(first.mean, m, 1);
      row.rstd = row_of(first.rstd, m, 1);
      HWY_DYNAMIC_DISPATCH(forward_row)
      (row, row_dropout(args.dropout, args.tokens_per_sample, m));
    }
  });
}

void residual_norm_backward(const ExecutionContext& ctx, const ResidualNormBackwardArgs& args) {
  if (args.dresidual.dtype() == DType::kBF16) {
    return in_float32(ctx, args, residual_norm_backward, [](Widened& f32, auto& a) {
      f32.input(a.dy);
      f32.input(a.dsum);
      f32.input(a.sum);
      f32.output(a.dresidual);
      f32.output(a.dx);
    });
  }
  const int64_t rows = args.dresidual.dim(0);
  const int64_t c = args.dresidual.dim(1);
  const int64_t blocks = (rows + kRows - 1) / kRows;
  const bool norm = static_cast<bool>(args.dy);
  const float* mean = norm ? args.mean.as<float>() : nullptr;
  const float* rstd = norm ? args.rstd.as<float>() : nullptr;
  WorkspaceScope scope(ctx.workspace());
  float* parts = norm ? scope.take<float>(blocks * 2 * c) : nullptr;
  const BackwardRow first = {.dy = optional(args.dy),
                             .dsum = optional(args.dsum),
                             .sum = norm ? args.sum.as<float>() : nullptr,
                             .gamma = norm ? args.gamma.as<float>() : nullptr,
                             .dresidual = args.dresidual.as<float>(),
                             .dx = optional(args.dx),
                             .channels = c};
  parallel_for(ctx, rows, kRows, [&](int64_t begin, int64_t end, int64_t block) {
    if (norm) {
      std::fill_n(parts + block * 2 * c, 2 * c, 0.0f);
    }
    for (int64_t m = begin; m < end; ++m) {
      BackwardRow row = first;
      row.dy = row_of(first.dy, m, c);
      row.dsum = row_of(first.dsum, m, c);
      row.sum = row_of(first.sum, m, c);
      row.dresidual = row_of(first.dresidual, m, c);
      row.dx = row_of(first.dx, m, c);
      row.mean = norm ? mean[m] : 0.0f;
      row.rstd = norm ? rstd[m] : 0.0f;
      row.dgamma = row_of(parts, 2 * block, c);
      row.dbeta = row_of(parts, 2 * block + 1, c);
      HWY_DYNAMIC_DISPATCH(backward_row)
      (row, row_dropout(args.dropout, args.tokens_per_sample, m));
    }
  });
  if (norm) {
    add_parts(ctx, parts, blocks, c, args.dgamma.as<float>(), args.dbeta.as<float>());
  }
}

}  // namespace stemfabric::cpu
#endif  // HWY_ONCE
