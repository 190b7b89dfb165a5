#include "trainer/audio_data/zero_phase.h"

#include <cmath>
#include <numbers>
#include <ranges>
#include <vector>

#include "runtime/core/check.h"

namespace stemfabric {
namespace {

// Transposed direct form 2.
class LowpassSection {
 public:
  LowpassSection(double hertz, double sample_rate, double q) {
    const double w = 2 * std::numbers::pi * hertz / sample_rate;
    const double alpha = std::sin(w) / (2 * q);
    const double a0 = 1 + alpha;
    b0_ = (1 - std::cos(w)) / 2 / a0;
    b1_ = 2 * b0_;
    a1_ = -2 * std::cos(w) / a0;
    a2_ = (1 - alpha) / a0;
  }
  double operator()(double x) {
    const double y = b0_ * x + z1_;
    z1_ = b1_ * x - a1_ * y + z2_;
    z2_ = b0_ * x - a2_ * y;
    return y;
  }

 private:
  double b0_, b1_, a1_, a2_;
  double z1_ = 0;
  double z2_ = 0;
};

void filter(auto&& samples, double hertz, double sample_rate) {
  // The quality factors of a Butterworth filter of order 4.
  LowpassSection first(hertz, sample_rate, 1 / (2 * std::cos(std::numbers::pi / 8)));
  LowpassSection second(hertz, sample_rate, 1 / (2 * std::cos(3 * std::numbers::pi / 8)));
  for (double& sample : samples) {
    sample = second(first(sample));
  }
}

}  // namespace

void zero_phase_lowpass(float* signal, int64_t frames, double hertz, int64_t sample_rate) {
  const auto rate = static_cast<double>(sample_rate);
  SF_CHECK(hertz > 0 && hertz < rate / 2, "low-pass at {} Hz", hertz);
  // Room for what rings on behind the end: after 16 periods less than 1e-12 of it is left.
  const auto tail = static_cast<int64_t>(16 * rate / hertz);
  std::vector<double> samples(static_cast<std::size_t>(frames + tail), 0.0);
  for (int64_t n = 0; n < frames; ++n) {
    samples[static_cast<std::size_t>(n)] = static_cast<double>(signal[n]);
  }
  filter(samples, hertz, rate);
  filter(std::views::reverse(samples), hertz, rate);
  for (int64_t n = 0; n < frames; ++n) {
    signal[n] = static_cast<float>(samples[static_cast<std::size_t>(n)]);
  }
}

}  // namespace stemfabric
