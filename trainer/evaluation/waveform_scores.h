// Scores of an estimated waveform against its reference that need no filters, in dB, in float64.
#pragma once

#include <vector>

#include "runtime/core/tensor_view.h"

namespace stemfabric {

// Scale-invariant SDR (Le Roux, Wisdom, Erdogan, Hershey, "SDR – half-baked or well done?", 2019):
//   α = Σ e r / Σ r r,   10 log10( Σ (α r)² / Σ (e − α r)² ),   no epsilon
// of estimate e and reference r, in the four conventions in use: one α for all channels or one
// each, signals as they are or with each channel's mean taken off. inf: e is α r exactly. NaN: e or
// r is 0.
struct SiSdr {
  double all_channels = 0, all_channels_zero_mean = 0;
  std::vector<double> per_channel, per_channel_zero_mean;  // [C]
};

// reference, estimate: [C, N] f32, any strides.
SiSdr si_sdr(const ConstTensorView& reference, const ConstTensorView& estimate);

// The SDR of the music demixing challenges (Mitsufuji et al. 2021), over all samples and channels:
//   10 log10( (Σ r² + ε) / (Σ (r − e)² + ε) )
inline constexpr double kUtteranceSdrEpsilon = 1e-7;
double utterance_sdr(const ConstTensorView& reference, const ConstTensorView& estimate);

}  // namespace stemfabric
