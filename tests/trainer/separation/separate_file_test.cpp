#include "trainer/separation/separate_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

#include "runtime/core/check.h"
#include "runtime/io/file.h"
#include "tests/trainer/separation/mask_weights.h"

namespace stemfabric {
namespace {

using test::TempDir;

// Vocals are what a mask of 1 leaves of the song: the song itself; the others are nothing.
class SeparateFile : public testing::Test {
 protected:
  SeparateFile() { test::write_all_is_vocals(model(), test::mask_model("real", 0)); }

  std::filesystem::path model() const { return folder_ / "w.safetensors"; }
  std::filesystem::path song() const { return folder_ / "song.wav"; }
  std::filesystem::path out() const { return folder_ / "stems"; }
  SeparateRequest request() const {
    return {.model = model(),
            .input = song(),
            .output_dir = out(),
            .sample_format = SampleFormat::kFloat32};
  }
  // Writes a song of one tone and compares vocals with it, away from its ends.
  void check(int rate, int channels, int64_t frames, double tolerance,
             const SeparateRequest& what) {
    std::vector<float> samples(static_cast<std::size_t>(frames * channels));
    for (int64_t n = 0; n < frames; ++n) {
      for (int c = 0; c < channels; ++c) {
        samples[static_cast<std::size_t>(n * channels + c)] = static_cast<float>(
            0.2 * std::sin(2 * std::numbers::pi * 500 * static_cast<double>(n) / rate + c));
      }
    }
    test::put_audio(song(), samples,
                    {.channels = channels, .rate = rate, .format = SampleFormat::kFloat32});
    const SeparateResult result = separate_file(ctx_, what);
    for (std::size_t s = 0; s < kStemCount; ++s) {
      AudioReader reader(result.files[s]);
      EXPECT_EQ(reader.info().sample_rate, rate);
      EXPECT_EQ(reader.info().channels, channels);
      ASSERT_EQ(reader.info().frames, frames);
      std::vector<float> have(samples.size());
      reader.read(0, frames, have.data());
      const int64_t margin = rate == test::kTinyRate ? 0 : std::min<int64_t>(2000, frames / 4);
      for (int64_t i = margin * channels; i < (frames - margin) * channels; ++i) {
        const double want = s == 0 ? static_cast<double>(samples[static_cast<std::size_t>(i)]) : 0;
        ASSERT_NEAR(static_cast<double>(have[static_cast<std::size_t>(i)]), want, tolerance)
            << kStemNames[s] << " at " << i;
      }
    }
  }

  TempDir folder_;
  ExecutionContext ctx_{ExecutionContext::Options{.threads = 2}};
};

TEST_F(SeparateFile, StemsHaveTheSongsRateChannelsAndLength) {
  check(test::kTinyRate, 2, 30001, 2e-6, request());
  check(test::kTinyRate, 1, 5000, 2e-6, request());
  check(11025, 2, 30001, 2e-4, request());
  check(44100, 1, 44101, 2e-4, request());
  check(test::kTinyRate, 2, 1, 2e-6, request());
  SeparateRequest flac = request();
  flac.flac = true;
  flac.sample_format = SampleFormat::kPcm24;
  flac.options = {.num_overlap = 3, .residual = true};
  check(test::kTinyRate, 2, 9000, 3e-6, flac);
}

TEST_F(SeparateFile, ASilentSongGivesSilence) {
  test::put_audio(song(), std::vector<float>(20000), {.rate = test::kTinyRate});
  const SeparateResult result = separate_file(ctx_, request());
  EXPECT_EQ(result.gain, 1);
  std::vector<float> have(20000, 1.0F);
  AudioReader(result.files[0]).read(0, 10000, have.data());
  EXPECT_TRUE(std::ranges::all_of(have, [](float x) { return x == 0; }));
}

TEST_F(SeparateFile, LoudStemsAreClippedAndCounted) {
  std::vector<float> samples(16000);
  for (std::size_t i = 0; i < samples.size(); ++i) {
    samples[i] = 1.5F * std::sin(0.1F * static_cast<float>(i / 2));
  }
  test::put_audio(song(), samples, {.rate = test::kTinyRate, .format = SampleFormat::kFloat32});
  SeparateRequest pcm = request();
  pcm.sample_format = SampleFormat::kPcm16;
  const SeparateResult result = separate_file(ctx_, pcm);
  EXPECT_GT(result.clipped[0], 1000);
  EXPECT_EQ(result.clipped[1], 0);
}

TEST_F(SeparateFile, TheSongIsNotReplaced) {
  SeparateRequest what = request();
  what.input = folder_ / "stems/vocals.wav";
  make_directories(out());
  test::put_audio(what.input, std::vector<float>(2000, 0.1F), {.rate = test::kTinyRate});
  const std::string before = read_text_file(what.input);
  try {
    separate_file(ctx_, what);
    FAIL() << "no error";
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("is the song itself"));
  }
  EXPECT_EQ(read_text_file(what.input), before);
  what.flac = true;
  what.sample_format = SampleFormat::kPcm16;
  EXPECT_EQ(separate_file(ctx_, what).source.frames, 1000);
}

TEST_F(SeparateFile, NothingIsLeftOfASongThatBreaksOff) {
  test::put_audio(song(), std::vector<float>(40000, 0.1F),
                  {.rate = test::kTinyRate, .format = SampleFormat::kFloat32});
  // A float WAV with a NaN, which no writer of ours makes: its bytes are put in.
  std::string bytes = read_text_file(song());
  const float nan = std::nanf("");
  std::memcpy(bytes.data() + bytes.size() - 4000, &nan, sizeof nan);
  write_text_file(song(), bytes);
  try {
    separate_file(ctx_, request());
    FAIL() << "no error";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr(song().string()));
  }
  EXPECT_FALSE(std::filesystem::exists(out() / "vocals.wav"));
  EXPECT_THROW(
      separate_file(ctx_, {.model = model(), .input = folder_ / "none.wav", .output_dir = out()}),
      InputError);
}

}  // namespace
}  // namespace stemfabric
