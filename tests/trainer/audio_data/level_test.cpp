#include "trainer/audio_data/level.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

namespace stemfabric {
namespace {

// A tone of amplitude 0.5 on the left, 0.3 on the right, and as much silence behind it.
struct Signal {
  std::vector<float> left, right;
  explicit Signal(int64_t tone, int64_t silence) {
    for (int64_t n = 0; n < tone; ++n) {
      const double x = std::sin(2 * std::numbers::pi * static_cast<double>(n) / 100);
      left.push_back(static_cast<float>(0.5 * x));
      right.push_back(static_cast<float>(0.3 * x));
    }
    left.resize(static_cast<std::size_t>(tone + silence), 0.0F);
    right.resize(left.size(), 0.0F);
  }
  double rms(std::vector<int64_t> cuts) const {
    LevelMeter meter(44100);
    int64_t at = 0;
    for (const int64_t cut : cuts) {
      meter.add(left.data() + at, right.data() + at, cut);
      at += cut;
    }
    const auto frames = static_cast<int64_t>(left.size());
    meter.add(left.data() + at, right.data() + at, frames - at);
    EXPECT_DOUBLE_EQ(meter.gain() * meter.rms(), kLevelTarget);
    return meter.rms();
  }
};

TEST(Level, SilenceDoesNotCount) {
  // Mean square of both channels: (0.5^2 + 0.3^2) / 2 / 2.
  const double expected = std::sqrt((0.25 + 0.09) / 4);
  EXPECT_NEAR(Signal(44100, 0).rms({}), expected, 1e-6);
  EXPECT_NEAR(Signal(44100, 441'000).rms({}), expected, 1e-6);
}

TEST(Level, CuttingDoesNotShow) {
  const Signal signal(50'001, 7);
  const double whole = signal.rms({});
  EXPECT_EQ(signal.rms({1, 4409, 4411, 3, 30'000}), whole);
}

TEST(Level, OfNothing) {
  LevelMeter meter(44100);
  EXPECT_EQ(meter.gain(), 1.0);
  const std::vector<float> zeros(10'000, 0.0F);
  meter.add(zeros.data(), zeros.data(), 10'000);
  EXPECT_EQ(meter.rms(), 0.0);
  EXPECT_EQ(meter.gain(), 1.0);
}

}  // namespace
}  // namespace stemfabric
