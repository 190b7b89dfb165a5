#include "trainer/separation/spectra_sum.h"

#include <algorithm>
#include <cstring>

#include "kernels/istft/istft.h"
#include "kernels/stft/stft.h"
#include "runtime/core/check.h"
#include "trainer/audio_data/audio_track.h"
#include "trainer/device_context.h"

namespace stemfabric {
namespace {

constexpr int64_t kSignals = kStemCount * kAudioChannels;

}  // namespace

SpectraSum::SpectraSum(const ExecutionContext& ctx, const AudioConfig& audio, int64_t length,
                       int64_t chunk_frames)
    : own_ctx_(ctx.is_cpu() ? std::nullopt
                            : std::optional(device_context("cpu", "inference.device",
                                                           ctx.threads().threads()))),
      ctx_(own_ctx_ ? *own_ctx_ : ctx),
      audio_(audio),
      length_(length),
      reach_(audio.n_fft / (2 * audio.hop_length)) {
  const int64_t window = chunk_frames + 2 * reach_ + 2;
  spectra_ = Tensor::zeros({1, kSignals, window, stft_bins(audio.n_fft), 2}, DType::kF32);
  signal_ = Tensor({1, kSignals, window * audio.hop_length}, DType::kF32);
  weight_.resize(static_cast<std::size_t>(window));
}

float* SpectraSum::row(int64_t signal, int64_t frame) {
  const Shape& s = spectra_.shape();
  SF_CHECK(frame >= base_ && frame < base_ + s[2], "frame {} of a window of {} from {}", frame,
           s[2], base_);
  return spectra_.as<float>() + ((signal * s[2] + frame - base_) * s[3]) * 2;
}

void SpectraSum::add(int64_t frame, double weight, const ConstTensorView& stems, int64_t i) {
  if (weight == 0) {
    return;
  }
  const int64_t values = 2 * spectra_.shape()[3];
  for (int64_t signal = 0; signal < kSignals; ++signal) {
    const float* from = stems.as<float>() + signal / kAudioChannels * stems.stride(0) +
                        signal % kAudioChannels * stems.stride(2) + i * stems.stride(3);
    float* to = row(signal, frame);
    const auto w = static_cast<float>(weight);
    for (int64_t k = 0; k < values; ++k) {
      to[k] += w * from[k];
    }
  }
  weight_[static_cast<std::size_t>(frame - base_)] += weight;
}

ConstTensorView SpectraSum::complete(int64_t frame, double factor) {
  const int64_t hop = audio_.hop_length;
  const int64_t values = 2 * spectra_.shape()[3];
  for (; normalised_ < frame; ++normalised_) {
    const double weight = weight_[static_cast<std::size_t>(normalised_ - base_)];
    SF_CHECK(weight > 0, "frame {} is in no chunk", normalised_);
    const auto scale = static_cast<float>(factor / weight);
    for (int64_t signal = 0; signal < kSignals; ++signal) {
      float* x = row(signal, normalised_);
      std::transform(x, x + values, x, [&](float v) { return v * scale; });
    }
  }
  const bool last = frame == stft_frames(length_, hop);
  const int64_t end = last ? length_ : (frame - reach_) * hop;
  const int64_t samples = last ? length_ - base_ * hop : (frame - 1 - base_) * hop;
  if (end <= given_ || samples <= audio_.n_fft / 2) {
    return {};
  }
  const TensorView signal = signal_.view().slice(2, 0, samples);
  istft(ctx_, {.spectra = spectra_.view().slice(2, 0, frame - base_),
               .n_fft = audio_.n_fft,
               .hop_length = hop,
               .signal = signal});
  const TensorView fresh = signal.slice(2, given_ - base_ * hop, end - given_);
  given_ = end;
  drop_before(std::max<int64_t>(0, end / hop - reach_));
  const int64_t stride = fresh.stride(1);
  return {fresh.data(), DType::kF32, Shape{kStemCount, kAudioChannels, fresh.dim(2)},
          ConstTensorView::Strides{kAudioChannels * stride, stride, 1}};
}

void SpectraSum::drop_before(int64_t frame) {
  const Shape& s = spectra_.shape();
  const int64_t dropped = frame - base_;
  if (dropped == 0) {
    return;
  }
  const int64_t kept = s[2] - dropped;
  const int64_t values = 2 * s[3];
  for (int64_t signal = 0; signal < kSignals; ++signal) {
    float* rows = row(signal, base_);
    std::memmove(rows, rows + dropped * values,
                 static_cast<std::size_t>(kept * values) * sizeof(float));
    std::fill_n(rows + kept * values, dropped * values, 0.0F);
  }
  std::move(weight_.begin() + dropped, weight_.end(), weight_.begin());
  std::fill(weight_.begin() + kept, weight_.end(), 0.0);
  base_ = frame;
}

}  // namespace stemfabric
