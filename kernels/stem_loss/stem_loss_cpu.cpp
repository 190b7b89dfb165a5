#include "kernels/stem_loss/stem_loss_cpu.h"

#include <algorithm>

#include "kernels/common/parallel_for.h"
#include "kernels/common/widened.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/stem_loss/stem_loss_cpu.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "kernels/common/simd-inl.h"

#ifndef SF_KERNELS_STEM_LOSS_CPU_TYPES
#define SF_KERNELS_STEM_LOSS_CPU_TYPES
namespace stemfabric::cpu {

// The last axis of one (stem, sample, token).
struct LossRow {
  const float *prediction, *target;
  const uint8_t* mask;  // null: all present
  float* gradient;      // null: not wanted
  float scale;          // gradient = scale · difference
  int64_t n;
};

}  // namespace stemfabric::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace stemfabric::HWY_NAMESPACE {

// prediction − target where present, else 0: whatever the absent elements hold is not used.
template <bool kMasked, class D>
HWY_INLINE hn::Vec<D> difference(D d, const cpu::LossRow& r, int64_t i) {
  const auto difference = hn::Sub(hn::LoadU(d, r.prediction + i), hn::LoadU(d, r.target + i));
  if constexpr (kMasked) {
    const hn::Rebind<int32_t, D> di;
    const hn::Rebind<uint8_t, D> du;
    const auto present = hn::PromoteTo(di, hn::LoadU(du, r.mask + i));
    return hn::IfThenElseZero(hn::RebindMask(d, hn::Gt(present, hn::Zero(di))), difference);
  }
  return difference;
}

// sums += difference², in float64.
template <class V, class VD>
HWY_INLINE void add_squares(V difference, VD& sum0, VD& sum1) {
  const DoubleTag dd;
#if HWY_TARGET == HWY_SCALAR
  static_cast<void>(sum1);
  const auto wide = hn::PromoteTo(dd, difference);
  sum0 = hn::MulAdd(wide, wide, sum0);
#else
  const HalfFloatTag half;
  const auto low = hn::PromoteTo(dd, hn::LowerHalf(half, difference));
  const auto high = hn::PromoteTo(dd, hn::UpperHalf(half, difference));
  sum0 = hn::MulAdd(low, low, sum0);
  sum1 = hn::MulAdd(high, high, sum1);
#endif
}

// Σ difference² of the row, and its gradient.
template <bool kMasked, bool kGradient>
HWY_INLINE double squares_of_row(const cpu::LossRow& r) {
  const DoubleTag dd;
  const FloatTag d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto scale = hn::Set(d, r.scale);
  auto sum0 = hn::Zero(dd);
  auto sum1 = hn::Zero(dd);
  auto sum2 = hn::Zero(dd);
  auto sum3 = hn::Zero(dd);
  const auto at = [&](int64_t i) HWY_ATTR {
    const auto delta = difference<kMasked>(d, r, i);
    if constexpr (kGradient) {
      hn::StoreU(hn::Mul(delta, scale), d, r.gradient + i);
    }
    return delta;
  };
  int64_t i = 0;
  for (; i + 2 * lanes <= r.n; i += 2 * lanes) {
    add_squares(at(i), sum0, sum1);
    add_squares(at(i + lanes), sum2, sum3);
  }
  double total = hn::GetLane(hn::SumOfLanes(dd, hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3))));
  for (; i < r.n; ++i) {
    const bool present = !kMasked || r.mask[i] != 0;
    const float delta = present ? r.prediction[i] - r.target[i] : 0.0f;
    if constexpr (kGradient) {
      r.gradient[i] = delta * r.scale;
    }
    total += static_cast<double>(delta) * static_cast<double>(delta);
  }
  return total;
}

double loss_row(const cpu::LossRow& r) {
  if (r.mask != nullptr) {
    return r.gradient != nullptr ? squares_of_row<true, true>(r) : squares_of_row<true, false>(r);
  }
  return r.gradient != nullptr ? squares_of_row<false, true>(r) : squares_of_row<false, false>(r);
}

}  // namespace stemfabric::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stemfabric {
HWY_EXPORT(loss_row);
}  // namespace stemfabric

namespace stemfabric::cpu {
namespace {

constexpr int64_t kBlockElements = 16384;  // of one task, about

// The rows (b, t) of a stem are cut into blocks; task = stem · blocks + block.
struct Blocks {
  explicit Blocks(const Shape& shape)
      : rows(shape[1] * shape[2]),
        rows_per_block(std::max<int64_t>(1, kBlockElements / std::max<int64_t>(1, shape[3]))),
        per_stem((rows + rows_per_block - 1) / rows_per_block) {}
  int64_t rows, rows_per_block, per_stem;
};

// First element of row (s, b, t); null for an absent view.
template <typename T, bool kConst>
auto* row_of(const BasicTensorView<kConst>& view, int64_t s, int64_t b, int64_t t) {
  return view ? view.template as<T>() + s * view.stride(0) + b * view.stride(1) + t * view.stride(2)
              : nullptr;
}

bool key_present(const ConstTensorView& key_mask, int64_t row) {
  return !key_mask || key_mask.as<uint8_t>()[row] != 0;
}

int64_t count_row(const uint8_t* mask, int64_t n) {
  if (mask == nullptr) {
    return n;
  }
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) {
    count += mask[i] != 0;
  }
  return count;
}

struct Sums {
  double loss = 0;
  double weighted = 0;
};

// Rows [begin, end) of stem s.
Sums loss_block(const StemLossArgs& args, int64_t s, int64_t begin, int64_t end) {
  const int64_t tokens = args.prediction.dim(2);
  const int64_t n = args.prediction.dim(3);
  const double count = args.count.as<double>()[s];
  Sums sums;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t b = row / tokens;
    const int64_t t = row % tokens;
    auto* gradient = row_of<float>(args.gradient, s, b, t);
    if (!key_present(args.key_mask, row)) {
      if (gradient != nullptr) {
        std::fill_n(gradient, n, 0.0f);
      }
      continue;
    }
    const float weight =
        args.weight ? args.weight.as<float>()[b * args.prediction.dim(0) + s] : 1.0f;
    const double scale = count > 0 ? 2 * static_cast<double>(weight) / count : 0.0;
    const double squares =
        HWY_DYNAMIC_DISPATCH(loss_row)({.prediction = row_of<float>(args.prediction, s, b, t),
                                        .target = row_of<float>(args.target, s, b, t),
                                        .mask = row_of<uint8_t>(args.target_mask, s, b, t),
                                        .gradient = gradient,
                                        .scale = static_cast<float>(scale),
                                        .n = n});
    sums.loss += squares;
    sums.weighted += static_cast<double>(weight) * squares;
  }
  return sums;
}

}  // namespace

void stem_count(const ExecutionContext& ctx, const StemCountArgs& args) {
  const Blocks blocks(args.shape);
  WorkspaceScope scope(ctx.workspace());
  auto* parts = scope.take<int64_t>(args.shape[0] * blocks.per_stem);
  parallel_for(ctx, args.shape[0] * blocks.per_stem, 1, [&](int64_t task, int64_t, int64_t) {
    const int64_t s = task / blocks.per_stem;
    const int64_t begin = task % blocks.per_stem * blocks.rows_per_block;
    const int64_t end = std::min(blocks.rows, begin + blocks.rows_per_block);
    int64_t count = 0;
    for (int64_t row = begin; row < end; ++row) {
      if (key_present(args.key_mask, row)) {
        count += count_row(
            row_of<uint8_t>(args.target_mask, s, row / args.shape[2], row % args.shape[2]),
            args.shape[3]);
      }
    }
    parts[task] = count;
  });
  for (int64_t task = 0; task < args.shape[0] * blocks.per_stem; ++task) {
    args.count.as<double>()[task / blocks.per_stem] += static_cast<double>(parts[task]);
  }
}

void stem_loss(const ExecutionContext& ctx, const StemLossArgs& args) {
  if (args.gradient && args.gradient.dtype() == DType::kBF16) {
    return in_float32(ctx, args, stem_loss, [](Widened& f32, auto& a) { f32.output(a.gradient); });
  }
  const int64_t stems = args.prediction.dim(0);
  const Blocks blocks(args.prediction.shape());
  WorkspaceScope scope(ctx.workspace());
  auto* parts = scope.take<Sums>(stems * blocks.per_stem);
  parallel_for(ctx, stems * blocks.per_stem, 1, [&](int64_t task, int64_t, int64_t) {
    const int64_t begin = task % blocks.per_stem * blocks.rows_per_block;
    parts[task] = loss_block(args, task / blocks.per_stem, begin,
                             std::min(blocks.rows, begin + blocks.rows_per_block));
  });
  for (int64_t s = 0; s < stems; ++s) {
    Sums sums;
    for (int64_t block = 0; block < blocks.per_stem; ++block) {
      sums.loss += parts[s * blocks.per_stem + block].loss;
      sums.weighted += parts[s * blocks.per_stem + block].weighted;
    }
    const double count = args.count.as<double>()[s];
    if (count > 0) {
      args.loss.as<double>()[s] += sums.loss / count;
      args.weighted.as<double>()[s] += sums.weighted / count;
    }
  }
}

}  // namespace stemfabric::cpu
#endif  // HWY_ONCE
