#include "kernels/stft_features/feature_bands.h"

#include <algorithm>
#include <cmath>

namespace stemfabric {

FeatureBands feature_bands(int64_t n_fft) {
  const auto end = static_cast<double>(n_fft / 2 + 1);
  FeatureBands bands = {};
  bands.edges[1] = 1;
  for (int j = 1; j < kSpectralFeatures; ++j) {
    const int begin = bands.edges[j];
    const double ratio = std::pow(end / begin, 1.0 / (kSpectralFeatures - j));
    const auto width = static_cast<int>(std::lround(begin * (ratio - 1)));
    bands.edges[j + 1] = begin + std::max(1, width);
  }
  return bands;
}

PitchRange pitch_range(int64_t n_fft, int64_t sample_rate) {
  const double bins_per_hz = static_cast<double>(n_fft) / static_cast<double>(sample_rate);
  return {.first = static_cast<int>(std::ceil(kPitchLowest * bins_per_hz)),
          .last = static_cast<int>(std::floor(kPitchHighest * bins_per_hz))};
}

}  // namespace stemfabric
