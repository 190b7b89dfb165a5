#include "trainer/audio_data/speed_change.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "runtime/core/check.h"

namespace stemfabric {
namespace {

constexpr double kBeta = 8;
// The window's transition, as a share of the band: what the filter takes off the highest tones.
constexpr double kPassband = 0.9;

double sinc(double x) {
  return x == 0 ? 1 : std::sin(std::numbers::pi * x) / (std::numbers::pi * x);
}

double kaiser(double x) {
  return std::abs(x) >= 1
             ? 0
             : std::cyl_bessel_i(0.0, kBeta * std::sqrt(1 - x * x)) / std::cyl_bessel_i(0.0, kBeta);
}

}  // namespace

SpeedChange::SpeedChange(int64_t speed_percent) : percent_(speed_percent) {
  SF_CHECK(speed_percent >= 50 && speed_percent <= 200, "speed {} %", speed_percent);
  taps_.resize(static_cast<std::size_t>(kPhases * kTaps));
  const double band = kPassband * std::min(1.0, 100.0 / static_cast<double>(percent_));
  std::vector<double> phase(static_cast<std::size_t>(kTaps));
  for (int64_t p = 0; p < kPhases; ++p) {
    double sum = 0;
    for (int64_t k = 0; k < kTaps; ++k) {
      const double t =
          static_cast<double>(k - kBefore) - static_cast<double>(p) / static_cast<double>(kPhases);
      const double tap = band * sinc(band * t) * kaiser(t / static_cast<double>(kHalf));
      phase[static_cast<std::size_t>(k)] = tap;
      sum += tap;
    }
    for (int64_t k = 0; k < kTaps; ++k) {
      taps_[static_cast<std::size_t>(p * kTaps + k)] =
          static_cast<float>(phase[static_cast<std::size_t>(k)] / sum);
    }
  }
}

int64_t SpeedChange::source_frames(int64_t frames) const {
  return frames == 0 ? 0 : (frames - 1) * percent_ / kPhases + kTaps;
}

void SpeedChange::apply(const float* source, int64_t frames, float* out) const {
  if (percent_ == kPhases) {
    std::copy_n(source + kBefore, frames, out);
    return;
  }
  for (int64_t n = 0; n < frames; ++n) {
    const int64_t at = n * percent_;
    const float* x = source + at / kPhases;
    const float* h = taps_.data() + at % kPhases * kTaps;
    // Sums side by side, so that the compiler may use vectors without changing an order.
    std::array<float, 8> sums{};
    for (int64_t k = 0; k < kTaps; k += 8) {
      for (std::size_t lane = 0; lane < 8; ++lane) {
        sums[lane] += h[k + static_cast<int64_t>(lane)] * x[k + static_cast<int64_t>(lane)];
      }
    }
    out[n] =
        ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
  }
}

}  // namespace stemfabric
