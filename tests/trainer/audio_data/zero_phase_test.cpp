#include "trainer/audio_data/zero_phase.h"

#include <gtest/gtest.h>

#include <cmath>
#include <complex>
#include <numbers>
#include <vector>

namespace stemfabric {
namespace {

constexpr int64_t kRate = 44100;

std::vector<float> response(int64_t frames, int64_t at, double hertz) {
  std::vector<float> signal(static_cast<std::size_t>(frames), 0.0F);
  signal[static_cast<std::size_t>(at)] = 1.0F;
  zero_phase_lowpass(signal.data(), frames, hertz, kRate);
  return signal;
}

// The magnitude of the filter is 1 / (1 + (tan(pi f / r) / tan(pi c / r))^8): a Butterworth filter
// of order 4 by the bilinear transform, twice.
TEST(ZeroPhase, ImpulseResponseHasTheFormulasSpectrum) {
  constexpr int64_t kFrames = 40'001;
  constexpr int64_t kMiddle = 20'000;
  for (const double cut : {80.0, 120.0, 2000.0}) {
    const auto h = response(kFrames, kMiddle, cut);
    for (const double hertz : {0.0, 30.0, cut, 1.5 * cut, 4.0 * cut}) {
      std::complex<double> sum = 0;
      for (int64_t n = 0; n < kFrames; ++n) {
        const double phase =
            -2 * std::numbers::pi * hertz / kRate * static_cast<double>(n - kMiddle);
        sum += static_cast<double>(h[static_cast<std::size_t>(n)]) * std::polar(1.0, phase);
      }
      const double ratio =
          std::tan(std::numbers::pi * hertz / kRate) / std::tan(std::numbers::pi * cut / kRate);
      const double expected = 1 / (1 + std::pow(ratio, 8));
      // Each of the samples is rounded to 24 bits of a value of at most 2 cut / rate.
      const double bound = kFrames * 0x1p-24 * 2 * cut / kRate;
      EXPECT_NEAR(sum.real(), expected, bound) << hertz << " of " << cut;
      EXPECT_NEAR(sum.imag(), 0.0, bound) << hertz << " of " << cut;
    }
  }
}

TEST(ZeroPhase, IsTheSameInBothDirections) {
  const auto h = response(10'001, 5000, 200);
  for (std::size_t k = 0; k <= 5000; ++k) {
    ASSERT_NEAR(h[5000 - k], h[5000 + k], 1e-9) << k;
  }
}

// An impulse at the border loses what lies beyond it, and nothing else: the signal counts as zero
// there.
TEST(ZeroPhase, BordersAreZeros) {
  const auto middle = response(40'001, 20'000, 100);
  for (const int64_t at : {0, 40'000}) {
    const auto h = response(40'001, at, 100);
    for (int64_t n = 0; n <= 20'000; ++n) {
      const auto inside = static_cast<std::size_t>(at == 0 ? n : at - n);
      ASSERT_NEAR(h[inside], middle[static_cast<std::size_t>(20'000 + n)], 1e-9) << at << " " << n;
    }
  }
}

}  // namespace
}  // namespace stemfabric
