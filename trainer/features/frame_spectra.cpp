#include "trainer/features/frame_spectra.h"

#include <algorithm>

#include "kernels/stft/stft.h"
#include "runtime/core/check.h"
#include "runtime/memory/buffer.h"

namespace stemfabric {
namespace {

constexpr int64_t kBlockFrames = 128;

std::span<const float> row(const Tensor& spectra, int64_t index, int64_t bins) {
  return {spectra.view().as<float>() + index * bins * 2, static_cast<std::size_t>(bins * 2)};
}

}  // namespace

void for_spectra_at(const ExecutionContext& ctx, std::span<const float> signal, int64_t n_fft,
                    std::span<const int64_t> starts, const UseSpectrum& use) {
  // A signal of n_fft samples with hops of half of it: frame 1 of three is the one wanted.
  const int64_t hop = n_fft / 2;
  const int64_t frames = stft_frames(n_fft, hop);
  const int64_t bins = stft_bins(n_fft);
  const auto count = static_cast<int64_t>(starts.size());
  for (int64_t first = 0; first < count; first += kBlockFrames) {
    const int64_t block = std::min(kBlockFrames, count - first);
    Tensor windows({block, 1, n_fft}, DType::kF32);
    Tensor spectra({block, 1, frames, bins, 2}, DType::kF32);
    for (int64_t i = 0; i < block; ++i) {
      const int64_t start = starts[static_cast<std::size_t>(first + i)];
      SF_CHECK(start >= 0 && start + n_fft <= static_cast<int64_t>(signal.size()));
      std::copy_n(signal.data() + start, n_fft, windows.view().as<float>() + i * n_fft);
    }
    stft(ctx,
         {.signal = windows.view(), .n_fft = n_fft, .hop_length = hop, .spectra = spectra.view()});
    for (int64_t i = 0; i < block; ++i) {
      use(first + i, row(spectra, i * frames + 1, bins));
    }
  }
}

void for_every_spectrum(const ExecutionContext& ctx, std::span<const float> signal, int64_t n_fft,
                        int64_t hop, const UseSpectrum& use) {
  const auto samples = static_cast<int64_t>(signal.size());
  const int64_t count = samples < n_fft ? 0 : (samples - n_fft) / hop + 1;
  const int64_t bins = stft_bins(n_fft);
  const int64_t ahead = n_fft / 2 / hop;  // centred frames whose windows begin before the block
  for (int64_t first = 0; first < count; first += kBlockFrames) {
    const int64_t block = std::min(kBlockFrames, count - first);
    const int64_t length = (block - 1) * hop + n_fft;
    Tensor spectra({1, 1, stft_frames(length, hop), bins, 2}, DType::kF32);
    stft(ctx, {.signal = ConstTensorView(signal.data() + first * hop, Shape{1, 1, length}),
               .n_fft = n_fft,
               .hop_length = hop,
               .spectra = spectra.view()});
    for (int64_t i = 0; i < block; ++i) {
      use(first + i, row(spectra, ahead + i, bins));
    }
  }
}

double bin_power(std::span<const float> spectrum, int64_t bin) {
  const auto bins = static_cast<int64_t>(spectrum.size() / 2);
  const auto n_fft = static_cast<double>(2 * (bins - 1));
  const double re = spectrum[static_cast<std::size_t>(2 * bin)];
  const double im = spectrum[static_cast<std::size_t>(2 * bin + 1)];
  // Parseval: Σ_n (w x)² = (1/n) Σ_k |X|², and Σ w² = 3n/8 for Hann; bins stand for two but the
  // first and the last.
  const double sides = bin == 0 || bin == bins - 1 ? 1.0 : 2.0;
  return sides * (re * re + im * im) / (n_fft * n_fft * 0.375);
}

}  // namespace stemfabric
