#include "trainer/audio/resample.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

namespace stemfabric {
namespace {

std::vector<float> sine(int64_t frames, double hertz, int rate) {
  std::vector<float> samples(static_cast<std::size_t>(frames));
  for (std::size_t i = 0; i < samples.size(); ++i) {
    samples[i] =
        static_cast<float>(std::sin(2 * std::numbers::pi * hertz * static_cast<double>(i) / rate));
  }
  return samples;
}

std::vector<float> noise(int64_t count) {
  std::vector<float> samples(static_cast<std::size_t>(count));
  uint32_t state = 1;
  for (float& x : samples) {
    state = state * 1664525 + 1013904223;
    x = static_cast<float>(state >> 8) * 0x1p-23f - 1.0f;
  }
  return samples;
}

TEST(Resample, LengthIsRounded) {
  EXPECT_EQ(resampled_frames(0, 48'000, 44'100), 0);
  EXPECT_EQ(resampled_frames(48'000, 48'000, 44'100), 44'100);
  EXPECT_EQ(resampled_frames(1, 44'100, 22'050), 1);  // a half goes up
  EXPECT_EQ(resampled_frames(3, 44'100, 8'000), 1);
  EXPECT_EQ(resampled_frames(INT64_C(1) << 40, 1000, 768'000), (INT64_C(1) << 40) * 768);
  for (const int64_t frames : {0, 1, 2, 3, 7, 100, 12'345, 40'001}) {
    for (const auto& [in, out] : {std::pair{48'000, 44'100},
                                  {44'100, 48'000},
                                  {8'000, 44'100},
                                  {96'000, 44'100},
                                  {44'100, 44'100},
                                  {11'025, 22'051}}) {
      const auto result = resample(noise(frames), 1, in, out);
      EXPECT_EQ(static_cast<int64_t>(result.size()), resampled_frames(frames, in, out))
          << frames << " frames, " << in << " to " << out;
    }
  }
}

// A sine stays that sine, in place: no delay, no change of level.
TEST(Resample, SinesArriveInPlace) {
  for (const auto& [in, out] :
       {std::pair{48'000, 44'100}, {22'050, 44'100}, {44'100, 48'000}, {96'000, 44'100}}) {
    for (const double hertz : {50.0, 997.0, 0.4 * std::min(in, out)}) {
      const auto result = resample(sine(in / 2, hertz, in), 1, in, out);
      const auto exact = sine(out / 2, hertz, out);
      double error = 0;
      for (std::size_t i = 2000; i + 2000 < exact.size(); ++i) {  // the ends ring
        error = std::max(error, std::abs(static_cast<double>(result[i]) - exact[i]));
      }
      // The pass band is flat within 0.01 dB: a factor of 1.0012.
      EXPECT_LT(error, 1.2e-3) << hertz << " Hz, " << in << " to " << out;
    }
  }
}

TEST(Resample, WhatTheNewRateCannotHoldIsGone) {
  const auto result = resample(sine(48'000, 23'000, 48'000), 1, 48'000, 44'100);
  double loudest = 0;
  for (std::size_t i = 2000; i + 2000 < result.size(); ++i) {
    loudest = std::max(loudest, std::abs(static_cast<double>(result[i])));
  }
  EXPECT_LT(loudest, 1e-5);  // -100 dB
}

TEST(Resample, TheBitsDoNotDependOnTheBlocks) {
  constexpr int64_t kFrames = 50'021;
  const auto input = noise(2 * kFrames);
  for (const auto& [in, out] : {std::pair{48'000, 44'100}, {8'000, 44'100}, {44'100, 44'100}}) {
    const auto whole = resample(input, 2, in, out);
    for (const int64_t block : {1, 777, 20'000}) {
      Resampler resampler(2, in, out);
      std::vector<float> result;
      for (int64_t at = 0; at < kFrames; at += block) {
        resampler.process(input.data() + 2 * at, std::min(block, kFrames - at), result);
      }
      resampler.finish(result);
      EXPECT_TRUE(result == whole) << "blocks of " << block << ", " << in << " to " << out;
    }
  }
}

TEST(Resample, ChannelsAreKeptApart) {
  const auto left = noise(5000);
  std::vector<float> stereo(10'000, 0.0f);
  for (std::size_t i = 0; i < left.size(); ++i) {
    stereo[2 * i] = left[i];
  }
  const auto both = resample(stereo, 2, 48'000, 44'100);
  const auto alone = resample(left, 1, 48'000, 44'100);
  ASSERT_EQ(both.size(), 2 * alone.size());
  for (std::size_t i = 0; i < alone.size(); ++i) {
    ASSERT_EQ(both[2 * i], alone[i]) << i;
    ASSERT_EQ(both[2 * i + 1], 0.0f) << i;
  }
}

}  // namespace
}  // namespace stemfabric
