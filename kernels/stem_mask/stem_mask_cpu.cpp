// One task takes one frame of all stems, so that the mixture's frame stays in the L1 cache while
// the stems' targets stream by. Per stem: outputs → bands → mask, all in scratch memory; then one
// pass over the bins of each channel; then the mask's gradient is gathered band by band.
#include "kernels/stem_mask/stem_mask_cpu.h"

#include <algorithm>

#include "kernels/common/parallel_for.h"
#include "kernels/common/widened.h"
#include "kernels/stem_mask/mask_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/stem_mask/stem_mask_cpu.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "kernels/stem_mask/mask_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace stemfabric::HWY_NAMESPACE {

// The mask of a frame from its outputs, plane by plane.
void expand_mask(const cpu::MaskTable& table, int64_t planes, const float* prediction,
                 const cpu::MaskScratch& to) {
  if (to.slope != nullptr) {
    sigmoid_row(prediction, planes * table.bands, to.activation, to.slope);
    prediction = to.activation;
  }
  for (int64_t plane = 0; plane < planes; ++plane) {
    expand_plane(table, prediction + plane * table.bands, to.mask + plane * table.bins);
  }
}

void gather_gradient(const cpu::MaskTable& table, int64_t planes, const cpu::MaskScratch& from,
                     float scale, float* gradient) {
  for (int64_t plane = 0; plane < planes; ++plane) {
    const float* slope = from.slope == nullptr ? nullptr : from.slope + plane * table.bands;
    gather_plane(table, from.dmask + plane * table.bins, slope, scale,
                 gradient + plane * table.bands);
  }
}

template <MaskCompression kCompression>
double loss_row_compressed(const MaskLossRule& rule, const cpu::MaskLossRow& r) {
  if (r.mask_im != nullptr) {
    return r.gradient_re != nullptr ? loss_row<kCompression, true, true>(rule, r)
                                    : loss_row<kCompression, true, false>(rule, r);
  }
  return r.gradient_re != nullptr ? loss_row<kCompression, false, true>(rule, r)
                                  : loss_row<kCompression, false, false>(rule, r);
}

double mask_loss_row(const MaskLossRule& rule, const cpu::MaskLossRow& r) {
  switch (rule.compression) {
    case MaskCompression::kLinear:
      return loss_row_compressed<MaskCompression::kLinear>(rule, r);
    case MaskCompression::kRoot:
      return loss_row_compressed<MaskCompression::kRoot>(rule, r);
    case MaskCompression::kPower:
      return loss_row_compressed<MaskCompression::kPower>(rule, r);
    case MaskCompression::kNone:
      break;
  }
  return loss_row_compressed<MaskCompression::kNone>(rule, r);
}

void mask_apply_row(const float* mask_re, const float* mask_im, const float* mixture, int64_t bins,
                    float* estimate) {
  for_lanes(bins, [&](auto d, int64_t k) HWY_ATTR {
    const auto x = load_complex(d, mixture + 2 * k);
    const auto z = mask_im != nullptr ? masked<true>(d, mask_re, mask_im, k, x)
                                      : masked<false>(d, mask_re, mask_im, k, x);
    hn::StoreInterleaved2(z.re, z.im, d, estimate + 2 * k);
  });
}

}  // namespace stemfabric::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stemfabric {
HWY_EXPORT(expand_mask);
HWY_EXPORT(gather_gradient);
HWY_EXPORT(mask_loss_row);
HWY_EXPORT(mask_apply_row);
}  // namespace stemfabric

namespace stemfabric::cpu {
namespace {

// Where the frame (b, t) of stem s lies.
float* row_of(const TensorView& view, int64_t s, int64_t b, int64_t t) {
  return view.as<float>() + s * view.stride(0) + b * view.stride(1) + t * view.stride(2);
}
const float* row_of(const ConstTensorView& view, int64_t s, int64_t b, int64_t t) {
  return view.as<float>() + s * view.stride(0) + b * view.stride(1) + t * view.stride(2);
}
// … of one channel; spectra are [S, B, C, T, K, 2].
template <bool kConst>
auto* spectrum_of(const BasicTensorView<kConst>& view, int64_t s, int64_t b, int64_t c, int64_t t) {
  return view.template as<float>() + s * view.stride(0) + b * view.stride(1) + c * view.stride(2) +
         t * view.stride(3);
}
// The mixture has no stems.
const float* mixture_of(const ConstTensorView& view, int64_t b, int64_t c, int64_t t) {
  return view.as<float>() + b * view.stride(0) + c * view.stride(1) + t * view.stride(2);
}

// An absent mask is all 1.
bool present(const ConstTensorView& mask, int64_t i) { return !mask || mask.as<uint8_t>()[i] != 0; }

template <typename Args>
MaskTable table_of(const Args& args) {
  return {.band = args.band.template as<int32_t>(),
          .fraction = args.fraction.template as<float>(),
          .first_bin = args.first_bin.template as<int32_t>(),
          .bands = args.first_bin.dim(0),
          .bins = args.band.dim(0)};
}

int64_t scratch_floats(const MaskLayout& layout) {
  return int64_t{2} * layout.planes() * (int64_t{layout.bands} + layout.bins);
}
MaskScratch scratch_at(float* memory, const MaskLayout& layout) {
  const int64_t outputs = int64_t{layout.planes()} * layout.bands;
  float* mask = memory + 2 * outputs;
  return {.activation = memory,
          .slope = layout.parts == 1 ? memory + outputs : nullptr,
          .mask = mask,
          .dmask = mask + int64_t{layout.planes()} * layout.bins};
}

struct Sums {
  double loss = 0;
  double weighted = 0;
};

struct LossJob {
  explicit LossJob(const MaskLossArgs& a)
      : args(a), rule(mask_loss_rule(a)), table(table_of(a)), layout(mask_layout(a)) {}

  // Frame t of sample b, stem s.
  Sums frame(int64_t s, int64_t b, int64_t t, const MaskScratch& scratch) const {
    const int64_t i = b * args.prediction.dim(0) + s;
    float* gradient = args.gradient ? row_of(args.gradient, s, b, t) : nullptr;
    if (!present(args.presence, i) || !present(args.key_mask, b * args.prediction.dim(2) + t)) {
      if (gradient != nullptr) {
        std::fill_n(gradient, args.prediction.dim(3), 0.0f);
      }
      return {};
    }
    HWY_DYNAMIC_DISPATCH(expand_mask)
    (table, layout.planes(), row_of(args.prediction, s, b, t), scratch);
    const double sum = channels(s, b, t, gradient != nullptr, scratch);
    const auto weight = static_cast<double>(args.weight ? args.weight.as<float>()[i] : 1.0f);
    if (gradient != nullptr) {
      const double count = args.count.as<double>()[s];
      const auto scale = static_cast<float>(count > 0 ? weight / count : 0.0);
      HWY_DYNAMIC_DISPATCH(gather_gradient)(table, layout.planes(), scratch, scale, gradient);
    }
    return {sum, weight * sum};
  }

  double channels(int64_t s, int64_t b, int64_t t, bool gradient,
                  const MaskScratch& scratch) const {
    double sum = 0;
    for (int c = 0; c < layout.channels; ++c) {
      const int64_t plane = layout.first_plane(c) * table.bins;
      const int64_t imaginary = plane + table.bins;
      const bool is_complex = layout.parts == 2;
      sum += HWY_DYNAMIC_DISPATCH(mask_loss_row)(
          rule, {.mask_re = scratch.mask + plane,
                 .mask_im = is_complex ? scratch.mask + imaginary : nullptr,
                 .mixture = mixture_of(args.mixture, b, c, t),
                 .target = spectrum_of(args.target, s, b, c, t),
                 .gradient_re = gradient ? scratch.dmask + plane : nullptr,
                 .gradient_im = gradient && is_complex ? scratch.dmask + imaginary : nullptr,
                 .add = layout.shared && c > 0,
                 .bins = table.bins});
    }
    return sum;
  }

  const MaskLossArgs& args;
  MaskLossRule rule;
  MaskTable table;
  MaskLayout layout;
};

}  // namespace

void mask_apply(const ExecutionContext& ctx, const MaskApplyArgs& args) {
  const MaskTable table = table_of(args);
  const MaskLayout layout = mask_layout(args);
  const int64_t frames = args.prediction.dim(2);
  const int64_t tasks = args.prediction.dim(1) * frames;
  const int64_t floats = scratch_floats(layout);
  WorkspaceScope scope(ctx.workspace());
  auto* memory = scope.take<float>(scratch_slots(ctx, tasks) * floats);
  parallel_tasks(ctx, tasks, [&](int64_t task, int64_t slot) {
    const int64_t b = task / frames;
    const int64_t t = task % frames;
    const MaskScratch scratch = scratch_at(memory + slot * floats, layout);
    for (int64_t s = 0; s < args.prediction.dim(0); ++s) {
      HWY_DYNAMIC_DISPATCH(expand_mask)
      (table, layout.planes(), row_of(args.prediction, s, b, t), scratch);
      for (int c = 0; c < layout.channels; ++c) {
        const float* mask = scratch.mask + layout.first_plane(c) * table.bins;
        HWY_DYNAMIC_DISPATCH(mask_apply_row)
        (mask, layout.parts == 2 ? mask + table.bins : nullptr, mixture_of(args.mixture, b, c, t),
         table.bins, spectrum_of(args.estimate, s, b, c, t));
      }
    }
  });
}

void mask_count(const ExecutionContext& /*ctx*/, const MaskCountArgs& args) {
  const Shape& shape = args.shape;
  for (int64_t s = 0; s < shape[0]; ++s) {
    int64_t frames = 0;
    for (int64_t row = 0; row < shape[1] * shape[3]; ++row) {
      frames +=
          present(args.presence, row / shape[3] * shape[0] + s) && present(args.key_mask, row);
    }
    args.count.as<double>()[s] += static_cast<double>(frames * shape[2] * shape[4]);
  }
}

void mask_loss(const ExecutionContext& ctx, const MaskLossArgs& args) {
  if (args.gradient && args.gradient.dtype() == DType::kBF16) {
    return in_float32(ctx, args, mask_loss, [](Widened& f32, auto& a) { f32.output(a.gradient); });
  }
  const LossJob job(args);
  const int64_t stems = args.prediction.dim(0);
  const int64_t frames = args.prediction.dim(2);
  const int64_t tasks = args.prediction.dim(1) * frames;
  const int64_t floats = scratch_floats(job.layout);
  WorkspaceScope scope(ctx.workspace());
  auto* memory = scope.take<float>(scratch_slots(ctx, tasks) * floats);
  auto* parts = scope.take<Sums>(tasks * stems);
  parallel_tasks(ctx, tasks, [&](int64_t task, int64_t slot) {
    const MaskScratch scratch = scratch_at(memory + slot * floats, job.layout);
    for (int64_t s = 0; s < stems; ++s) {
      parts[task * stems + s] = job.frame(s, task / frames, task % frames, scratch);
    }
  });
  for (int64_t s = 0; s < stems; ++s) {
    Sums sums;
    for (int64_t task = 0; task < tasks; ++task) {
      sums.loss += parts[task * stems + s].loss;
      sums.weighted += parts[task * stems + s].weighted;
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
