// Two passes over blocks of frames: the first transforms a frame and forms all features that it has
// by itself, and writes its band powers to the workspace, 512 bytes per frame; the second takes the
// medians over 17 frames and 17 bands and the flux from these.
#include "kernels/stft_features/stft_features_cpu.h"

#include <algorithm>
#include <cmath>

#include "kernels/common/fft_scratch.h"
#include "kernels/common/parallel_for.h"
#include "kernels/stft/frame_source.h"
#include "kernels/stft/stft.h"
#include "kernels/stft_features/feature_bands.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/stft_features/stft_features_cpu.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <hwy/contrib/math/math-inl.h>
#include "kernels/common/fft_simd-inl.h"
#include "kernels/stft/stft_frame-inl.h"

#ifndef SF_KERNELS_STFT_FEATURES_CPU_TYPES
#define SF_KERNELS_STFT_FEATURES_CPU_TYPES
namespace stemfabric::cpu {

struct FeaturePlan {
  const FftTables& tables;
  FeatureBands bands;
  PitchRange pitch;
  int64_t hop_length;
  float bin_hz;
};

// Powers of a frame's bins and its pitch saliences; rows are padded, that whole vectors may be
// read.
struct FrameRows {
  static constexpr int64_t row(int64_t n_fft) { return n_fft / 2 + 32; }
  static constexpr int64_t floats(int64_t n_fft) { return 7 * row(n_fft); }
  FrameRows(float* memory, int64_t n_fft)
      : left(memory),
        right(left + row(n_fft)),
        mid(right + row(n_fft)),
        side(mid + row(n_fft)),
        phase(side + row(n_fft)),
        amplitude(phase + row(n_fft)),
        salience(amplitude + row(n_fft)) {}
  float *left, *right, *mid, *side, *phase, *amplitude, *salience;
};

struct FrameOutput {
  float* bands;                           // [128]
  float* features;                        // [256]
  float *left_spectrum, *right_spectrum;  // [K, 2] or null
};

// The band powers of the frames t − 8 … t + 8.
using BandWindow = std::array<const float*, kMedianWidth>;

}  // namespace stemfabric::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace stemfabric::HWY_NAMESPACE {

using cpu::BandWindow;
using cpu::FeaturePlan;
using cpu::FrameOutput;
using cpu::FrameRows;

// log10(E + ε); NaN if E is.
template <class D>
HWY_INLINE hn::Vec<D> log_power(D d, hn::Vec<D> power) {
  const auto log = hn::Log10(d, hn::Add(power, hn::Set(d, kPowerFloor)));
  return hn::MulAdd(power, hn::Zero(d), log);
}
// Steps of whole vectors over kCount values, by the largest vectors that divide it.
template <int kCount, class Body>
HWY_INLINE void for_vectors(const Body& body) {
  const hn::CappedTag<float, kCount & -kCount> d;
  for (int i = 0; i < kCount; i += static_cast<int>(hn::Lanes(d))) {
    body(d, i);
  }
}
template <int kCount>
HWY_INLINE void log_powers(const float* HWY_RESTRICT powers, float* HWY_RESTRICT to) {
  for_vectors<kCount>([&](auto d, int i) HWY_ATTR {
    hn::StoreU(log_power(d, hn::LoadU(d, powers + i)), d, to + i);
  });
}

// row[begin] + … + row[end − 1].
HWY_INLINE float row_sum(const float* HWY_RESTRICT row, int begin, int end) {
  const FloatTag d;
  const int lanes = static_cast<int>(hn::Lanes(d));
  auto sum = hn::Zero(d);
  int i = begin;
  for (; i + lanes <= end; i += lanes) {
    sum = hn::Add(sum, hn::LoadU(d, row + i));
  }
  if (i < end) {
    const auto rest = hn::FirstN(d, static_cast<std::size_t>(end - i));
    sum = hn::Add(sum, hn::IfThenElseZero(rest, hn::LoadU(d, row + i)));
  }
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

HWY_INLINE void bin_powers(int n, const SplitComplex& z, const FrameRows& rows,
                           const FrameOutput& out) {
  for_bins(n, [&](auto d, int k) HWY_ATTR {
    using Bin = ComplexVec<hn::Vec<decltype(d)>>;
    const auto bins = stereo_bins(d, z, n, k);
    const Bin& l = bins.left;
    const Bin& r = bins.right;
    if (out.left_spectrum != nullptr) {
      hn::StoreInterleaved2(l.re, l.im, d, out.left_spectrum + 2 * k);
      hn::StoreInterleaved2(r.re, r.im, d, out.right_spectrum + 2 * k);
    }
    const auto scale = hn::Set(d, power_scale(n));
    const auto quarter = hn::Set(d, 0.25f * power_scale(n));
    const auto power = [&](const Bin& x, auto factor) HWY_ATTR {
      return hn::Mul(factor, hn::MulAdd(x.re, x.re, hn::Mul(x.im, x.im)));
    };
    hn::StoreU(power(l, scale), d, rows.left + k);
    hn::StoreU(power(r, scale), d, rows.right + k);
    hn::StoreU(power(l + r, quarter), d, rows.mid + k);
    hn::StoreU(power(l - r, quarter), d, rows.side + k);
    const auto cross = hn::MulSub(l.im, r.re, hn::Mul(l.re, r.im));
    hn::StoreU(hn::Mul(scale, cross), d, rows.phase + k);
  });
  for (float* row : {rows.left, rows.right, rows.mid, rows.side, rows.phase}) {
    row[0] *= 0.5f;
    row[n / 2] *= 0.5f;
  }
}

HWY_INLINE void stereo_features(const FeaturePlan& plan, const FrameRows& rows, float* to) {
  for (int g = 0; g < kStereoGroups; ++g) {
    const int begin = plan.bands.edges[group_begin(g, kStereoGroups)];
    const int end = plan.bands.edges[group_begin(g + 1, kStereoGroups)];
    const float left = row_sum(rows.left, begin, end);
    const float right = row_sum(rows.right, begin, end);
    const float mid = row_sum(rows.mid, begin, end);
    const float side = row_sum(rows.side, begin, end);
    const float phase = row_sum(rows.phase, begin, end);
    to[g * kStereoValues] = side / (mid + side + kPowerFloor);
    to[g * kStereoValues + 1] = (right - left) / (left + right + kPowerFloor);
    to[g * kStereoValues + 2] = 2 * phase / (left + right + kPowerFloor);
  }
}

// Correlation, and the energies of all bins; returns the sum of left and right.
HWY_INLINE float whole_features(int n, const FrameRows& rows, float* features) {
  const int bins = n / 2 + 1;
  const float powers[kEnergyFeatures] = {row_sum(rows.left, 0, bins), row_sum(rows.right, 0, bins),
                                         row_sum(rows.mid, 0, bins), row_sum(rows.side, 0, bins)};
  features[kCorrelation] = (powers[2] - powers[3]) / (powers[2] + powers[3] + kPowerFloor);
  log_powers<kEnergyFeatures>(powers, features + kEnergyBegin);
  return powers[0] + powers[1];
}

struct HopValues {
  float rms, crossings;
};
// The hop in the middle of a frame of n samples.
HWY_INLINE HopValues hop_values(int64_t n, int64_t hop, const float* HWY_RESTRICT left,
                                const float* HWY_RESTRICT right) {
  const float* l = left + n / 2 - hop / 2;
  const float* r = right + n / 2 - hop / 2;
  std::size_t crossings = 0;
  const auto sums = two_sums(hop, [&](auto d, int64_t i, auto& squares, auto& /*unused*/) HWY_ATTR {
    const auto now = hn::Add(hn::LoadU(d, l + i), hn::LoadU(d, r + i));
    const auto before = hn::Add(hn::LoadU(d, l + i - 1), hn::LoadU(d, r + i - 1));
    squares = hn::MulAdd(now, now, squares);
    const auto zero = hn::Zero(d);
    crossings += hn::CountTrue(d, hn::Xor(hn::Lt(now, zero), hn::Lt(before, zero)));
  });
  const auto samples = static_cast<float>(hop);
  return {.rms = 0.5f * std::sqrt(sums.first / samples),
          .crossings = static_cast<float>(crossings) / samples};
}

// Octaves above kPitchLowest.
HWY_INLINE float pitch(const FeaturePlan& plan, const FrameRows& rows) {
  const auto [first, last] = plan.pitch;
  const int bins = plan.tables.n / 2 + 1;
  for_lanes(std::min(bins, last * kPitchHarmonics + 1), [&](auto d, int64_t k) HWY_ATTR {
    hn::StoreU(hn::Sqrt(hn::LoadU(d, rows.mid + k)), d, rows.amplitude + k);
  });
  std::fill(rows.salience + first, rows.salience + last + 1, 0.0f);
  float weight = 1;
  for (int h = 1; h <= kPitchHarmonics; ++h) {
    const int end = std::min(last, (bins - 1) / h);
    for (int k = first; k <= end; ++k) {
      rows.salience[k] += weight * rows.amplitude[h * k];
    }
    weight *= kHarmonicDecay;
  }
  const float* best = std::max_element(rows.salience + first, rows.salience + last + 1);
  if (!(*best > kAmplitudeFloor)) {
    return 0;
  }
  const auto k = static_cast<int>(best - rows.salience);
  const bool inside = k > first && k < last;
  const float bend = inside ? 2 * best[0] - best[-1] - best[1] : 0;
  const float vertex = bend > 0 ? 0.5f * (best[1] - best[-1]) / bend : 0;
  return std::log2((static_cast<float>(k) + vertex) * plan.bin_hz /
                   static_cast<float>(kPitchLowest));
}

// The features that a frame has by itself, and its band powers.
void frame_features(const FeaturePlan& plan, const FftScratch& scratch, const FrameRows& rows,
                    const float* left, const float* right, const FrameOutput& out) {
  const int n = plan.tables.n;
  bin_powers(n, frame_transform(plan.tables, scratch, left, right), rows, out);
  for (int j = 0; j < kSpectralFeatures; ++j) {
    const int begin = plan.bands.edges[j];
    const int end = plan.bands.edges[j + 1];
    out.bands[j] = end - begin == 1 ? rows.mid[begin] : row_sum(rows.mid, begin, end);
  }
  log_powers<kSpectralFeatures>(out.bands, out.features);
  stereo_features(plan, rows, out.features + kStereoBegin);
  const float total = whole_features(n, rows, out.features);
  const HopValues hop = hop_values(n, plan.hop_length, left, right);
  // A frame that is not finite has no finite feature, though the hop and the pitch may not see why.
  out.features[kRms] = hop.rms + 0 * total;
  out.features[kZeroCrossings] = hop.crossings + 0 * total;
  out.features[kPitch] = pitch(plan, rows) + 0 * total;
}

template <class V>
HWY_INLINE void order(V& low, V& high) {
  const V least = hn::Min(low, high);
  high = hn::Max(low, high);
  low = least;
}

// The median of 17 values: of the first ten, the least and the largest cannot be it; they leave,
// the next value comes, and so on to the last three. load(i) gives the values.
template <class Load>
HWY_INLINE auto median17(const Load& load) {
  using V = decltype(load(0));
  constexpr int kHeld = kMedianWidth / 2 + 2;
  V v[kHeld];
  for (int i = 0; i < kHeld; ++i) {
    v[i] = load(i);
  }
  int next = kHeld;
  for (int size = kHeld;; --size) {
    const int last = size - 1;
    for (int i = 0; i < size / 2; ++i) {
      order(v[i], v[last - i]);
    }
    for (int i = 1; i <= last / 2; ++i) {
      order(v[0], v[i]);
      order(v[last - i], v[last]);
    }
    if (size == 3) {
      return v[1];
    }
    v[0] = load(next++);
  }
}

// Powers of the harmonic and of the percussive part of each band.
HWY_INLINE void separate_bands(const FeaturePlan& plan, const BandWindow& window,
                               float* HWY_RESTRICT harmonic, float* HWY_RESTRICT percussive) {
  constexpr int kBands = kSpectralFeatures;
  HWY_ALIGN float inverse_width[kBands];
  HWY_ALIGN float density[kBands + 2 * kMedianReach];
  const float* now = window[kMedianReach];
  for (int j = 0; j < kBands; ++j) {
    inverse_width[j] = 1 / static_cast<float>(plan.bands.edges[j + 1] - plan.bands.edges[j]);
    density[kMedianReach + j] = now[j] * inverse_width[j];
  }
  std::fill_n(density, kMedianReach, density[kMedianReach]);
  std::fill_n(density + kMedianReach + kBands, kMedianReach, density[kMedianReach + kBands - 1]);

  for_vectors<kBands>([&](auto d, int j) HWY_ATTR {
    const auto width = hn::LoadU(d, inverse_width + j);
    auto spoiled = hn::Zero(d);  // NaN if a frame of the window is, else 0
    const auto over_time = hn::Mul(width, median17([&](int i) HWY_ATTR {
                                     const auto power =
                                         hn::LoadU(d, window[static_cast<std::size_t>(i)] + j);
                                     spoiled = hn::MulAdd(power, hn::Zero(d), spoiled);
                                     return power;
                                   }));
    const auto over_bands = median17([&](int i) HWY_ATTR { return hn::LoadU(d, density + j + i); });
    const auto sum = hn::Add(hn::Add(over_time, over_bands), hn::Set(d, kPowerFloor));
    const auto part = hn::Add(hn::Div(hn::LoadU(d, now + j), sum), spoiled);
    hn::StoreU(hn::Mul(part, over_time), d, harmonic + j);
    hn::StoreU(hn::Mul(part, over_bands), d, percussive + j);
  });
}

template <int kGroups>
HWY_INLINE void group_features(const float* HWY_RESTRICT powers, float* HWY_RESTRICT to) {
  float sums[kGroups];
  for (int g = 0; g < kGroups; ++g) {
    const int end = group_begin(g + 1, kGroups);
    sums[g] = 0;
    for (int j = group_begin(g, kGroups); j < end; ++j) {
      sums[g] += powers[j];
    }
  }
  log_powers<kGroups>(sums, to);
}

HWY_INLINE float flux(const float* HWY_RESTRICT now, const float* HWY_RESTRICT before) {
  const auto sums =
      two_sums(kSpectralFeatures, [&](auto d, int64_t j, auto& rise, auto& level) HWY_ATTR {
        const auto a = hn::Sqrt(hn::LoadU(d, now + j));
        const auto difference = hn::Sub(a, hn::Sqrt(hn::LoadU(d, before + j)));
        const auto spoiled = hn::Mul(difference, hn::Zero(d));
        rise = hn::Add(rise, hn::Add(hn::Max(hn::Zero(d), difference), spoiled));
        level = hn::Add(level, a);
      });
  return sums.first / (sums.second + kAmplitudeFloor);
}

// The features that a frame has by its neighbours.
void context_features(const FeaturePlan& plan, const BandWindow& window, float* features) {
  HWY_ALIGN float harmonic[kSpectralFeatures];
  HWY_ALIGN float percussive[kSpectralFeatures];
  separate_bands(plan, window, harmonic, percussive);
  group_features<kHarmonicFeatures>(harmonic, features + kHarmonicBegin);
  group_features<kPercussiveFeatures>(percussive, features + kPercussiveBegin);
  features[kFlux] = flux(window[kMedianReach], window[kMedianReach - 1]);
}

}  // namespace stemfabric::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stemfabric {
HWY_EXPORT(frame_features);
HWY_EXPORT(context_features);
}  // namespace stemfabric

namespace stemfabric::cpu {
namespace {

constexpr int64_t kFramesPerTask = 8;

// body(b, t, slot) for all frames.
template <class Body>
void for_frames(const ExecutionContext& ctx, const TensorView& features, const Body& body) {
  const int64_t frames = features.dim(1);
  const int64_t blocks = (frames + kFramesPerTask - 1) / kFramesPerTask;
  parallel_tasks(ctx, features.dim(0) * blocks, [&](int64_t task, int64_t slot) {
    const int64_t begin = task % blocks * kFramesPerTask;
    for (int64_t t = begin; t < std::min(frames, begin + kFramesPerTask); ++t) {
      body(task / blocks, t, slot);
    }
  });
}

float* features_at(const StftFeaturesArgs& args, int64_t b, int64_t t) {
  const TensorView& features = args.features;
  return features.as<float>() + b * features.stride(0) + t * features.stride(1);
}

void transform_frames(const ExecutionContext& ctx, const StftFeaturesArgs& args,
                      const FeaturePlan& plan, float* bands) {
  const ConstTensorView& signal = args.signal;
  const TensorView& spectra = args.spectra;
  const int64_t frames = args.features.dim(1);
  const int64_t row = FftScratch::row(args.n_fft);
  const int64_t floats = FftScratch::floats(args.n_fft) + 2 * row + FrameRows::floats(args.n_fft);
  WorkspaceScope scope(ctx.workspace());
  auto* memory = scope.take<float>(ctx.threads().threads() * floats);
  for_frames(ctx, args.features, [&](int64_t b, int64_t t, int64_t slot) {
    float* copies = memory + slot * floats;
    float* own = copies + 2 * row;
    const float* left = signal.as<float>() + b * signal.stride(0);
    const auto samples_of = [&](const float* channel, float* copy) {
      return frame_samples(channel, signal.dim(2), args.n_fft, args.hop_length, t, copy);
    };
    FrameOutput out = {.bands = bands + (b * frames + t) * kSpectralFeatures,
                       .features = features_at(args, b, t),
                       .left_spectrum = nullptr,
                       .right_spectrum = nullptr};
    if (spectra) {
      out.left_spectrum = spectra.as<float>() + b * spectra.stride(0) + t * spectra.stride(2);
      out.right_spectrum = out.left_spectrum + spectra.stride(1);
    }
    HWY_DYNAMIC_DISPATCH(frame_features)
    (plan, FftScratch::in(own, args.n_fft),
     FrameRows(own + FftScratch::floats(args.n_fft), args.n_fft), samples_of(left, copies),
     samples_of(left + signal.stride(1), copies + row), out);
  });
}

}  // namespace

void stft_features(const ExecutionContext& ctx, const StftFeaturesArgs& args) {
  const FeaturePlan plan = {
      .tables = fft_tables(args.n_fft),
      .bands = feature_bands(args.n_fft),
      .pitch = pitch_range(args.n_fft, args.sample_rate),
      .hop_length = args.hop_length,
      .bin_hz = static_cast<float>(args.sample_rate) / static_cast<float>(args.n_fft)};
  const int64_t frames = args.features.dim(1);
  WorkspaceScope scope(ctx.workspace());
  auto* bands = scope.take<float>(args.features.dim(0) * frames * kSpectralFeatures);
  transform_frames(ctx, args, plan, bands);
  for_frames(ctx, args.features, [&](int64_t b, int64_t t, int64_t /*slot*/) {
    BandWindow window;
    for (int64_t i = 0; i < kMedianWidth; ++i) {
      const int64_t at = std::clamp<int64_t>(t + i - kMedianReach, 0, frames - 1);
      window[static_cast<std::size_t>(i)] = bands + (b * frames + at) * kSpectralFeatures;
    }
    HWY_DYNAMIC_DISPATCH(context_features)(plan, window, features_at(args, b, t));
  });
}

}  // namespace stemfabric::cpu
#endif  // HWY_ONCE
