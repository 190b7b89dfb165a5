#include "kernels/chunk_mix/chunk_mix_cpu.h"

#include <algorithm>
#include <array>
#include <limits>

#include "kernels/common/parallel_for.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/chunk_mix/chunk_mix_cpu.cpp"  // once for each target
#include <hwy/foreach_target.h>
// After foreach_target.h:
#include <hwy/cache_control.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace stemfabric {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Floats = hn::ScalableTag<float>;

HWY_INLINE auto load_samples(Floats d, const float* from) { return hn::LoadU(d, from); }
HWY_INLINE auto load_samples(Floats d, const int16_t* from) {
  const hn::Rebind<int32_t, Floats> wide;
  const hn::Rebind<int16_t, Floats> narrow;
  return hn::ConvertTo(d, hn::PromoteTo(wide, hn::LoadU(narrow, from)));
}

// Outputs are larger than the caches: written past them where they lie as vectors do, they need not
// be read first.
HWY_INLINE bool as_vectors(Floats d, const float* to) {
  return reinterpret_cast<uintptr_t>(to) % (hn::Lanes(d) * sizeof(float)) == 0;
}

// stem[n] = factor · from[n], unless there is no stem, and sum[n] += that.
template <typename T>
HWY_INLINE void add_scaled(const T* from, int64_t frames, float factor, float* stem, float* sum) {
  const Floats d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto scale = hn::Set(d, factor);
  const bool stream = stem != nullptr && as_vectors(d, stem);
  int64_t n = 0;
  for (; n + lanes <= frames; n += lanes) {
    const auto value = hn::Mul(scale, load_samples(d, from + n));
    if (stream) {
      hn::Stream(value, d, stem + n);
    } else if (stem != nullptr) {
      hn::StoreU(value, d, stem + n);
    }
    hn::StoreU(hn::Add(hn::LoadU(d, sum + n), value), d, sum + n);
  }
  for (; n < frames; ++n) {
    const float value = factor * static_cast<float>(from[n]);
    if (stem != nullptr) {
      stem[n] = value;
    }
    sum[n] += value;
  }
}

void add_integers(const int16_t* from, int64_t frames, float factor, float* stem, float* sum) {
  add_scaled(from, frames, factor, stem, sum);
}
void add_floats(const float* from, int64_t frames, float factor, float* stem, float* sum) {
  add_scaled(from, frames, factor, stem, sum);
}

// Others see what was written past the caches once this returns.
void write_past_caches(const float* from, int64_t size, float* to) {
  const Floats d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t n = 0;
  for (; as_vectors(d, to) && n + lanes <= size; n += lanes) {
    hn::Stream(hn::LoadU(d, from + n), d, to + n);
  }
  std::copy(from + n, from + size, to + n);
  hwy::FlushStream();
}

}  // namespace HWY_NAMESPACE
}  // namespace stemfabric
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stemfabric {
namespace {

HWY_EXPORT(add_integers);
HWY_EXPORT(add_floats);
HWY_EXPORT(write_past_caches);

constexpr int64_t kBlock = 4096;  // frames: the mixture's stay in the first-level cache

// `size` frames from `first` on of one channel of one part. `stem` may be null.
void add_part(const ChunkPart& part, const ConstTensorView& pcm, int64_t channels, int64_t channel,
              int64_t first, int64_t size, float* stem, float* sum) {
  int64_t within = 0;
  if (part.type != PcmType::kNone) {
    if (!pcm_within(part, channels, static_cast<int64_t>(pcm.bytes()))) {
      constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
      std::fill_n(sum, size, kNaN);
      std::fill_n(stem, stem == nullptr ? 0 : size, kNaN);
      return;
    }
    within = std::clamp<int64_t>(part.frames - first, 0, size);
    const int64_t c = part.swap != 0 ? channels - 1 - channel : channel;
    const auto* from = static_cast<const std::byte*>(pcm.data()) + part.begin +
                       c * pcm_channel_bytes(part.type, part.frames) +
                       first * pcm_sample_bytes(part.type);
    if (part.type == PcmType::kI16) {
      HWY_DYNAMIC_DISPATCH(add_integers)
      (reinterpret_cast<const int16_t*>(from), within, part.factor, stem, sum);
    } else {
      HWY_DYNAMIC_DISPATCH(add_floats)
      (reinterpret_cast<const float*>(from), within, part.factor, stem, sum);
    }
  }
  if (stem != nullptr) {
    std::fill(stem + within, stem + size, 0.0F);
  }
}

}  // namespace

namespace cpu {

void chunk_mix(const ExecutionContext& ctx, const ChunkMixArgs& args) {
  const int64_t channels = args.mixture.dim(1);
  const int64_t frames = args.mixture.dim(2);
  const int64_t parts = args.parts.dim(1);
  const int64_t stems = args.stems ? args.stems.dim(1) : 0;
  const auto* part = static_cast<const ChunkPart*>(args.parts.data());
  const int64_t blocks = (frames + kBlock - 1) / kBlock;
  parallel_for(ctx, args.mixture.dim(0) * channels * blocks, 1, [&](int64_t i, int64_t, int64_t) {
    const int64_t row = i / blocks;  // b · C + c
    const int64_t b = row / channels;
    const int64_t c = row % channels;
    const int64_t first = i % blocks * kBlock;
    const int64_t size = std::min(kBlock, frames - first);
    std::array<float, kBlock> sum;
    std::fill_n(sum.data(), size, 0.0F);
    for (int64_t p = 0; p < parts; ++p) {
      float* stem = p < stems
                        ? args.stems.as<float>() + ((b * stems + p) * channels + c) * frames + first
                        : nullptr;
      add_part(part[b * parts + p], args.pcm, channels, c, first, size, stem, sum.data());
    }
    HWY_DYNAMIC_DISPATCH(write_past_caches)
    (sum.data(), size, args.mixture.as<float>() + row * frames + first);
  });
}

}  // namespace cpu
}  // namespace stemfabric
#endif  // HWY_ONCE
