#include "trainer/audio_data/speed_change.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <vector>

namespace stemfabric {
namespace {

constexpr int64_t kFrames = 3000;

std::vector<float> played(const SpeedChange& change, double cycles, double phase) {
  std::vector<float> source(static_cast<std::size_t>(change.source_frames(kFrames)));
  for (std::size_t n = 0; n < source.size(); ++n) {
    const auto t = static_cast<double>(n) - static_cast<double>(SpeedChange::kBefore);
    source[n] = static_cast<float>(std::cos(2 * std::numbers::pi * cycles * t + phase));
  }
  std::vector<float> out(kFrames);
  change.apply(source.data(), kFrames, out.data());
  return out;
}

double largest(const std::vector<float>& values) {
  double most = 0;
  for (const float value : values) {
    most = std::max(most, std::abs(static_cast<double>(value)));
  }
  return most;
}

class SpeedOfTones : public testing::TestWithParam<int> {};

TEST_P(SpeedOfTones, ScalesFrequenciesAndKeepsLevelsAndPhases) {
  const SpeedChange change(GetParam());
  const double speed = GetParam() / 100.0;
  for (const double band : {0.0, 0.01, 0.2, 0.5, 0.8}) {  // of the narrower half band
    const double cycles = 0.5 * band / std::max(1.0, speed);
    const std::vector<float> have = played(change, cycles, 0.3);
    double error = 0;
    for (int64_t n = 0; n < kFrames; ++n) {
      const double want =
          std::cos(2 * std::numbers::pi * cycles * speed * static_cast<double>(n) + 0.3);
      error =
          std::max(error, std::abs(static_cast<double>(have[static_cast<std::size_t>(n)]) - want));
    }
    EXPECT_LT(error, 1e-3) << "cycles per sample: " << cycles;
  }
}

INSTANTIATE_TEST_SUITE_P(Percent, SpeedOfTones, testing::Values(50, 80, 99, 100, 101, 113, 125));

TEST(SpeedChange, WhatWouldAliasIsGone) {
  for (const int percent : {101, 113, 125}) {
    const SpeedChange change(percent);
    // Tones that would end above half of the sample rate, and so be heard as others.
    for (double cycles = 50.0 / percent; cycles < 0.5; cycles += 0.01) {
      EXPECT_LT(largest(played(change, cycles, 0.3)), 3.2e-4) << cycles;  // -70 dB
    }
  }
}

TEST(SpeedChange, ReadsNoMoreThanItSays) {
  for (const int percent : {50, 77, 100, 131, 200}) {
    const SpeedChange change(percent);
    for (const int64_t frames : {1, 2, 100, 101}) {
      // Guarded by the address sanitizer, and by a value that would be seen.
      std::vector<float> source(static_cast<std::size_t>(change.source_frames(frames)), 1.0F);
      source.push_back(1e30F);
      std::vector<float> out(static_cast<std::size_t>(frames) + 1, -7.0F);
      change.apply(source.data(), frames, out.data());
      for (int64_t n = 0; n < frames; ++n) {
        EXPECT_NEAR(out[static_cast<std::size_t>(n)], 1.0F, 1e-6);
      }
      EXPECT_EQ(out.back(), -7.0F);
    }
  }
  EXPECT_EQ(SpeedChange(120).source_frames(0), 0);
}

}  // namespace
}  // namespace stemfabric
