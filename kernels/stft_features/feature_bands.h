// The bands of stft_features.h and the bins of its pitch, for a transform of n_fft points.
#pragma once

#include <cstdint>

#include "kernels/common/philox.h"  // SF_HOST_DEVICE
#include "kernels/stft_features/feature_layout.h"

namespace stemfabric {

// Band j is bins edges[j] … edges[j+1] − 1: one bin each at first, then about as many times wider
// as the one before, to the last bin, n_fft/2, that each bin lies in one band. Each edge is where a
// geometric series from the one before it to the end would have it, or else the next bin:
//   edges[0] = 0, edges[1] = 1,
//   edges[j+1] = e + max(1, round(e ((K/e)^(1/(128−j)) − 1))), e = edges[j], K = n_fft/2 + 1
struct FeatureBands {
  int edges[kSpectralFeatures + 1];
};
FeatureBands feature_bands(int64_t n_fft);

// The first band of group g of `groups`; g = groups: behind the last.
SF_HOST_DEVICE constexpr int group_begin(int g, int groups) {
  return g * kSpectralFeatures / groups;
}

// Bins that are candidates for the pitch: first … last, all of them inside the transform.
struct PitchRange {
  int first, last;
};
PitchRange pitch_range(int64_t n_fft, int64_t sample_rate);

// Factor of |Y[k]|² in p_Y[k] for 0 < k < n_fft/2.
constexpr float power_scale(int64_t n_fft) {
  const auto n = static_cast<double>(n_fft);
  return static_cast<float>(2 / (n * (0.375 * n)));
}

}  // namespace stemfabric
