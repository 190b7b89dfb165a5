#include "trainer/audio/audio_input.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "runtime/core/check.h"
#include "runtime/io/file.h"
#include "tests/support/paths.h"
#include "trainer/audio/resample.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;
using test::TempDir;
using testing::HasSubstr;

// Interleaved multiples of 2^-15, another number in every place.
std::vector<float> counting(int64_t frames, int channels) {
  std::vector<float> samples(static_cast<std::size_t>(frames * channels));
  for (std::size_t i = 0; i < samples.size(); ++i) {
    samples[i] = static_cast<float>(static_cast<int>(i * 97 % 60'001) - 30'000) / 32768.0f;
  }
  return samples;
}

fs::path put(const fs::path& path, const std::vector<float>& samples, int channels, int rate,
             SampleFormat format = SampleFormat::kPcm16) {
  AudioWriter writer(path, rate, channels, format);
  writer.write(samples.data(), static_cast<int64_t>(samples.size()) / channels);
  writer.finish();
  return path;
}

std::vector<float> channel(const Tensor& audio, int64_t c) {
  const float* row = audio.as<float>() + c * audio.shape()[1];
  return {row, row + audio.shape()[1]};
}

std::vector<float> every(const std::vector<float>& samples, std::size_t step, std::size_t first) {
  std::vector<float> result;
  for (std::size_t i = first; i < samples.size(); i += step) {
    result.push_back(samples[i]);
  }
  return result;
}

std::string refusal(const fs::path& path, AudioLayout layout = {}) {
  try {
    read_audio(path, layout);
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr(path.filename().string()));
    return error.what();
  }
  return "accepted";
}

TEST(AudioInput, StereoComesAsItIs) {
  const TempDir dir;
  const auto samples = counting(40'000, 2);
  const fs::path path = put(dir / "x.flac", samples, 2, 44'100);
  const Tensor audio = read_audio(path, {});
  EXPECT_EQ(audio.shape(), (Shape{2, 40'000}));
  EXPECT_EQ(channel(audio, 0), every(samples, 2, 0));
  EXPECT_EQ(channel(audio, 1), every(samples, 2, 1));
  EXPECT_TRUE(AudioInput(path, {}).exact_16_bit());
  EXPECT_EQ(AudioInput(path, {}).source().format, "FLAC/PCM_16");
}

TEST(AudioInput, MonoGoesToBothAndStereoToItsMean) {
  const TempDir dir;
  const auto samples = counting(1000, 2);
  const fs::path mono = put(dir / "mono.wav", samples, 1, 44'100);
  const Tensor both = read_audio(mono, {.channels = 2});
  EXPECT_EQ(channel(both, 0), samples);
  EXPECT_EQ(channel(both, 1), samples);
  EXPECT_TRUE(AudioInput(mono, {.channels = 2}).exact_16_bit());

  const fs::path stereo = put(dir / "stereo.wav", samples, 2, 44'100);
  const Tensor mean = read_audio(stereo, {.channels = 1});
  ASSERT_EQ(mean.shape(), (Shape{1, 1000}));
  for (std::size_t i = 0; i < 1000; ++i) {
    EXPECT_EQ(channel(mean, 0)[i], (samples[2 * i] + samples[2 * i + 1]) / 2);
  }
  EXPECT_FALSE(AudioInput(stereo, {.channels = 1}).exact_16_bit());
}

TEST(AudioInput, OtherRatesAreResampled) {
  const TempDir dir;
  const auto samples = counting(30'000, 2);
  const fs::path path = put(dir / "x.wav", samples, 2, 48'000);
  const Tensor audio = read_audio(path, {.sample_rate = 44'100});
  const auto expected = resample(samples, 2, 48'000, 44'100);
  ASSERT_EQ(audio.shape()[1], resampled_frames(30'000, 48'000, 44'100));
  EXPECT_EQ(channel(audio, 0), every(expected, 2, 0));
  EXPECT_EQ(channel(audio, 1), every(expected, 2, 1));
  EXPECT_FALSE(AudioInput(path, {}).exact_16_bit());
  EXPECT_FALSE(
      AudioInput(put(dir / "y.wav", samples, 2, 44'100, SampleFormat::kPcm24), {}).exact_16_bit());
}

TEST(AudioInput, BlocksAreThoseOfTheWhole) {
  const TempDir dir;
  for (const int rate : {44'100, 32'000}) {
    const fs::path path = put(dir / "x.wav", counting(50'000, 2), 2, rate);
    const Tensor whole = read_audio(path, {});
    AudioInput input(path, {});
    constexpr int64_t kStride = 30'000;
    std::vector<float> block(2 * kStride, 9.0f);
    int64_t at = 0;
    for (const int64_t frames : {1, 0, 17'000, 30'000, 30'000, 30'000}) {
      const int64_t got = input.read(frames, block.data(), kStride);
      ASSERT_EQ(got, std::min(frames, input.frames() - at));
      for (int64_t c = 0; c < 2; ++c) {
        const float* expected = whole.as<float>() + c * whole.shape()[1] + at;
        EXPECT_TRUE(std::equal(expected, expected + got, block.data() + c * kStride));
      }
      at += got;
    }
    EXPECT_EQ(at, input.frames());
    EXPECT_EQ(input.read(10, block.data(), kStride), 0);
  }
}

TEST(AudioInput, ShortFilesHaveNoPitfalls) {
  const TempDir dir;
  for (const int64_t frames : {1, 2, 100}) {
    const fs::path path = put(dir / "x.wav", counting(frames, 1), 1, 22'050);
    EXPECT_EQ(read_audio(path, {}).shape(), (Shape{2, 2 * frames}));
  }
  EXPECT_EQ(read_audio(put(dir / "none.wav", {}, 1, 22'050), {}).shape(), (Shape{2, 0}));
}

TEST(AudioInput, SamplesThatAreNoneAreRefusedWithTheirPlace) {
  const TempDir dir;
  auto samples = counting(50'000, 2);
  // AudioWriter refuses such values, so their bytes go into the file afterwards.
  const auto with_value = [&](const char* name, float value) {
    put(dir / name, samples, 2, 44'100, SampleFormat::kFloat32);
    std::string bytes = read_text_file(dir / name);
    const std::size_t at = bytes.size() - 4 * (100'000 - (2 * 44'100 + 1));
    bytes.replace(at, 4, reinterpret_cast<const char*>(&value), 4);
    test::put_file(dir / name, bytes);
    return dir / name;
  };
  EXPECT_THAT(refusal(with_value("nan.wav", std::numeric_limits<float>::quiet_NaN())),
              HasSubstr("1.0000 s (frame 44100, channel 1) is not a finite number"));
  EXPECT_THAT(refusal(with_value("inf.wav", -std::numeric_limits<float>::infinity())),
              HasSubstr("not a finite number"));
  EXPECT_THAT(refusal(with_value("huge.wav", 3e7f)), HasSubstr("3e+07, not in units"));
  EXPECT_EQ(refusal(with_value("loud.wav", 8.0f)), "accepted");
}

TEST(AudioInput, WhatHasNoPlaceIsRefused) {
  const TempDir dir;
  EXPECT_THAT(refusal(put(dir / "surround.wav", counting(100, 6), 6, 48'000)),
              HasSubstr("has 6 channels; mix it down"));
  EXPECT_THAT(refusal(dir / "none.wav"), HasSubstr("there is no audio file"));
}

}  // namespace
}  // namespace stemfabric
