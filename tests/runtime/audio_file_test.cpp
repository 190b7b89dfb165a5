#include "runtime/io/audio_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sndfile.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>
#include <vector>

#include "runtime/core/check.h"
#include "runtime/io/file.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/mutations.h"
#include "tests/support/paths.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;
using test::TempDir;
using testing::HasSubstr;

// [frames, channels], full of values that integers of `bits` bits hold exactly, both ends included.
std::vector<float> exact_samples(int64_t frames, int channels, int bits) {
  std::vector<float> samples(static_cast<std::size_t>(frames * channels));
  const auto range = int64_t{1} << bits;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const auto k = static_cast<int64_t>((i * 2654435761U + 12345) % static_cast<uint64_t>(range));
    samples[i] = std::ldexp(static_cast<float>(k - range / 2), 1 - bits);
  }
  samples[0] = -1.0f;
  samples[1] = 1.0f - std::ldexp(1.0f, 1 - bits);
  return samples;
}

std::vector<float> tone(int64_t frames, int channels, double step) {
  std::vector<float> samples(static_cast<std::size_t>(frames * channels));
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const auto frame = static_cast<double>(i / static_cast<std::size_t>(channels));
    samples[i] = static_cast<float>(0.5 * std::sin(step * frame));
  }
  return samples;
}

void write(const fs::path& path, const std::vector<float>& samples, int channels,
           SampleFormat format, int sample_rate = 44100) {
  AudioWriter writer(path, sample_rate, channels, format);
  writer.write(samples.data(), static_cast<int64_t>(samples.size()) / channels);
  writer.finish();
}

std::vector<float> read_part(AudioReader& reader, int64_t first, int64_t frames) {
  std::vector<float> samples(static_cast<std::size_t>(frames * reader.info().channels), -7.0f);
  const int64_t got = reader.read(first, frames, samples.data());
  samples.resize(static_cast<std::size_t>(got * reader.info().channels));
  return samples;
}

std::vector<float> read_all(const fs::path& path) {
  AudioReader reader(path);
  return read_part(reader, 0, reader.info().frames);
}

// A file in a format that AudioWriter does not write.
void write_with_library(const fs::path& path, int format, const std::vector<float>& samples,
                        int channels, int sample_rate = 44100) {
  SF_INFO info{};
  info.format = format;
  info.channels = channels;
  info.samplerate = sample_rate;
  SNDFILE* file = ::sf_open(path.c_str(), SFM_WRITE, &info);
  ASSERT_NE(file, nullptr) << ::sf_strerror(nullptr);
  const auto frames = static_cast<sf_count_t>(samples.size()) / channels;
  EXPECT_EQ(::sf_writef_float(file, samples.data(), frames), frames);
  ::sf_close(file);
}

template <typename Kind, typename Action>
std::string refusal(const Action& action) {
  try {
    action();
  } catch (const Kind& error) {
    return error.what();
  }
  return "accepted";
}

TEST(AudioFile, IntegersAndFloatsComeBackAsTheyWere) {
  const TempDir dir;
  struct Case {
    const char* name;
    SampleFormat format;
    int bits;
    const char* expected;
  };
  for (const Case& c : {Case{"a.wav", SampleFormat::kPcm16, 16, "WAV/PCM_16"},
                        Case{"b.wav", SampleFormat::kPcm24, 24, "WAV/PCM_24"},
                        Case{"c.wav", SampleFormat::kFloat32, 24, "WAV/FLOAT"},
                        Case{"d.flac", SampleFormat::kPcm16, 16, "FLAC/PCM_16"},
                        Case{"e.FLAC", SampleFormat::kPcm24, 24, "FLAC/PCM_24"}}) {
    for (const int channels : {1, 2, 6}) {
      for (const int64_t frames : {1, 2, 4095, 10'001}) {
        const auto samples = exact_samples(frames * 2, channels, c.bits);
        write(dir / c.name, samples, channels, c.format, 22'050 + channels);
        const AudioInfo info = read_audio_info(dir / c.name);
        EXPECT_EQ(info.frames, frames * 2);
        EXPECT_EQ(info.channels, channels);
        EXPECT_EQ(info.sample_rate, 22'050 + channels);
        EXPECT_EQ(info.format, c.expected);
        EXPECT_EQ(info.exact_16_bit, c.bits == 16);
        EXPECT_EQ(read_all(dir / c.name), samples);
      }
    }
  }
}

TEST(AudioFile, FloatsBeyondFullScaleAreKeptAndIntegersClipped) {
  const TempDir dir;
  const std::vector<float> samples = {1.5f, -3.0f, 0.25f, 1.0f, -1.0f, 1e38f};
  write(dir / "f.wav", samples, 2, SampleFormat::kFloat32);
  EXPECT_EQ(read_all(dir / "f.wav"), samples);

  AudioWriter writer(dir / "i.wav", 44100, 2, SampleFormat::kPcm16);
  writer.write(samples.data(), 3);
  EXPECT_EQ(writer.clipped(), 4);  // +1 is one step beyond, -1 is not
  writer.finish();
  const float top = 32767.0f / 32768.0f;
  EXPECT_EQ(read_all(dir / "i.wav"), (std::vector<float>{top, -1.0f, 0.25f, top, -1.0f, top}));
}

TEST(AudioFile, IntegersAreRoundedToTheNearest) {
  const TempDir dir;
  const float step = 1.0f / 32768.0f;
  write(dir / "x.wav",
        {0.49f * step, 0.51f * step, -1.49f * step, -1.51f * step, 0.5f * step, 1.5f * step}, 1,
        SampleFormat::kPcm16);
  EXPECT_EQ(read_all(dir / "x.wav"), (std::vector<float>{0, step, -step, -2 * step, 0, 2 * step}));
}

TEST(AudioFile, EqualSamplesGiveEqualBytes) {
  const TempDir dir;
  const auto samples = exact_samples(3000, 2, 16);
  for (const char* extension : {".wav", ".flac"}) {
    for (const SampleFormat format :
         {SampleFormat::kPcm16, SampleFormat::kPcm24, SampleFormat::kFloat32}) {
      if (extension == std::string(".flac") && format == SampleFormat::kFloat32) {
        continue;
      }
      write(dir / (std::string("a") + extension), samples, 2, format);
      const fs::path in_parts = dir / (std::string("b") + extension);
      AudioWriter writer(in_parts, 44100, 2, format);
      writer.write(samples.data(), 7);
      writer.write(samples.data() + 14, 0);
      writer.write(samples.data() + 14, 2993);
      writer.finish();
      EXPECT_EQ(read_text_file(dir / (std::string("a") + extension)), read_text_file(in_parts));
      // The chunk that would hold the time of writing.
      EXPECT_THAT(read_text_file(in_parts), Not(HasSubstr("PEAK")));
    }
  }
}

TEST(AudioFile, AFileAppearsInFinishOrNever) {
  const TempDir dir;
  const auto samples = exact_samples(100, 1, 16);
  {
    AudioWriter writer(dir / "x.wav", 44100, 1, SampleFormat::kPcm16);
    writer.write(samples.data(), 100);
    EXPECT_FALSE(fs::exists(dir / "x.wav"));
  }
  EXPECT_TRUE(fs::is_empty(dir.path()));
  write(dir / "x.wav", samples, 1, SampleFormat::kPcm16);
  {
    AudioWriter writer(dir / "x.wav", 44100, 1, SampleFormat::kPcm16);
    const float bad = std::numeric_limits<float>::quiet_NaN();
    writer.write(samples.data(), 3);
    EXPECT_THAT(refusal<NumericError>([&] { writer.write(&bad, 1); }), HasSubstr("frame 3"));
  }
  EXPECT_EQ(read_all(dir / "x.wav"), samples);
}

// Lossless and lossy formats: any part, in any order, is what reading from the start gives.
TEST(AudioFile, PartsAreThoseOfTheWhole) {
  const TempDir dir;
  const auto samples = tone(30'000, 2, 0.05);
  write(dir / "a.wav", samples, 2, SampleFormat::kPcm16);
  write(dir / "b.flac", samples, 2, SampleFormat::kPcm16);
  write_with_library(dir / "c.ogg", SF_FORMAT_OGG | SF_FORMAT_VORBIS, samples, 2);
  write_with_library(dir / "d.mp3", SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III, samples, 2);
  for (const char* name : {"a.wav", "b.flac", "c.ogg", "d.mp3"}) {
    const auto whole = read_all(dir / name);
    AudioReader reader(dir / name);
    const int64_t n = reader.info().frames;
    EXPECT_GE(n, 30'000) << name;
    for (const auto& [first, frames] : {std::pair<int64_t, int64_t>{20'000, 333},
                                        {20'333, 5},
                                        {5, 4096},
                                        {0, 1},
                                        {29'999, 1},
                                        {12'345, 10'000}}) {
      const auto part = read_part(reader, first, frames);
      ASSERT_EQ(part.size(), static_cast<std::size_t>(2 * frames)) << name;
      EXPECT_EQ(std::memcmp(part.data(), whole.data() + 2 * first, part.size() * sizeof(float)), 0)
          << name << " from frame " << first;
    }
    EXPECT_EQ(read_part(reader, n - 3, 10).size(), 6u);
    EXPECT_TRUE(read_part(reader, n, 10).empty());
    EXPECT_TRUE(read_part(reader, n + 1000, 10).empty());
  }
}

TEST(AudioFile, LossyFormatsSoundLikeTheirSource) {
  const TempDir dir;
  const auto samples = tone(30'000, 2, 0.05);
  write_with_library(dir / "x.ogg", SF_FORMAT_OGG | SF_FORMAT_VORBIS, samples, 2);
  write_with_library(dir / "x.mp3", SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III, samples, 2);
  for (const auto& [name, format] :
       {std::pair{"x.ogg", "OGG/VORBIS"}, std::pair{"x.mp3", "MPEG/LAYER_III"}}) {
    AudioReader reader(dir / name);
    EXPECT_EQ(reader.info().format, format);
    EXPECT_FALSE(reader.info().exact_16_bit);
    const auto back = read_part(reader, 0, reader.info().frames);
    ASSERT_GE(back.size(), samples.size()) << name;
    double error = 0;
    for (std::size_t i = 8000; i < 50'000; ++i) {  // away from both ends
      error = std::max(error, std::abs(static_cast<double>(back[i]) - samples[i]));
    }
    EXPECT_LT(error, 0.02) << name;  // a shift by one sample alone would be 0.025
  }
}

TEST(AudioFile, OtherFormatsThatStudiosExport) {
  const TempDir dir;
  const auto samples = exact_samples(500, 2, 16);
  for (const auto& [name, format, expected] :
       {std::tuple{"a.aiff", SF_FORMAT_AIFF | SF_FORMAT_PCM_16, "AIFF/PCM_16"},
        std::tuple{"b.wav", SF_FORMAT_WAVEX | SF_FORMAT_PCM_24, "WAV/PCM_24"},
        std::tuple{"c.wav", SF_FORMAT_RF64 | SF_FORMAT_FLOAT, "RF64/FLOAT"},
        std::tuple{"d.wav", SF_FORMAT_WAV | SF_FORMAT_DOUBLE, "WAV/DOUBLE"},
        std::tuple{"e.w64", SF_FORMAT_W64 | SF_FORMAT_PCM_32, "W64/PCM_32"}}) {
    write_with_library(dir / name, format, samples, 2, 96'000);
    EXPECT_EQ(read_audio_info(dir / name).format, expected);
    EXPECT_EQ(read_audio_info(dir / name).sample_rate, 96'000);
    const auto back = read_all(dir / name);
    ASSERT_EQ(back.size(), samples.size());
    for (std::size_t i = 0; i < samples.size(); ++i) {
      // The library's own writer scales floats by 32767.
      EXPECT_NEAR(back[i], samples[i], 1.5 / 32768) << name;
    }
  }
}

// FLAC writes its last block when it is closed.
TEST(AudioFile, AFullDiskIsNoticedWhenClosing) {
  const TempDir dir;
  const auto samples = exact_samples(4000, 2, 16);
  test::put_file(dir / "x.flac", "old");
  AudioWriter writer(dir / "x.flac", 44100, 2, SampleFormat::kPcm16);
  const test::FileSizeLimit limit(4096);
  writer.write(samples.data(), 4000);
  EXPECT_THAT(refusal<IoError>([&] { writer.finish(); }),
              testing::AllOf(HasSubstr("x.flac"), HasSubstr("File too large")));
  EXPECT_EQ(read_text_file(dir / "x.flac"), "old");
}

TEST(AudioFile, NotANumberPassesThrough) {
  const TempDir dir;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  write_with_library(dir / "x.wav", SF_FORMAT_WAV | SF_FORMAT_FLOAT, {0.5f, nan, -inf, 0.25f}, 1);
  const auto back = read_all(dir / "x.wav");
  EXPECT_EQ(back[0], 0.5f);
  EXPECT_TRUE(std::isnan(back[1]));
  EXPECT_EQ(back[2], -inf);
  EXPECT_EQ(back[3], 0.25f);
}

TEST(AudioFile, CutOffFilesAreRefused) {
  const TempDir dir;
  const auto samples = exact_samples(20'000, 2, 16);
  write(dir / "a.wav", samples, 2, SampleFormat::kPcm16);
  write(dir / "b.flac", samples, 2, SampleFormat::kPcm16);
  write_with_library(dir / "c.aiff", SF_FORMAT_AIFF | SF_FORMAT_PCM_16, samples, 2);
  write_with_library(dir / "d.wav", SF_FORMAT_RF64 | SF_FORMAT_PCM_16, samples, 2);
  for (const char* name : {"a.wav", "b.flac", "c.aiff", "d.wav"}) {
    const std::string bytes = read_text_file(dir / name);
    test::put_file(dir / name, bytes.substr(0, bytes.size() / 2));
    const std::string message = refusal<InputError>([&] { read_all(dir / name); });
    EXPECT_THAT(message, HasSubstr(name));
    EXPECT_THAT(message, HasSubstr("copy or export the file again"));
  }
}

TEST(AudioFile, AWavOfUnknownLengthIsReadToItsEnd) {
  const TempDir dir;
  const auto samples = exact_samples(1000, 2, 16);
  write(dir / "x.wav", samples, 2, SampleFormat::kPcm16);
  std::string bytes = read_text_file(dir / "x.wav");
  const std::size_t data = bytes.find("data");
  for (const char* size : {"\xff\xff\xff\xff", "\xff\xff\xff\x7f"}) {
    bytes.replace(data + 4, 4, size, 4);
    bytes.replace(4, 4, size, 4);
    test::put_file(dir / "x.wav", bytes);
    EXPECT_EQ(read_all(dir / "x.wav"), samples);
  }
}

TEST(AudioFile, WhatIsNoAudioIsRefusedWithItsName) {
  const TempDir dir;
  test::put_file(dir / "empty.wav", "");
  test::put_file(dir / "text.wav", "hello, this is no audio file at all");
  fs::create_directory(dir / "folder.wav");
  EXPECT_THAT(refusal<InputError>([&] { read_audio_info(dir / "none.wav"); }),
              HasSubstr("there is no audio file"));
  EXPECT_THAT(refusal<InputError>([&] { read_audio_info(dir / "empty.wav"); }),
              AllOf(HasSubstr("empty.wav"), HasSubstr("is empty")));
  EXPECT_THAT(refusal<InputError>([&] { read_audio_info(dir / "text.wav"); }),
              AllOf(HasSubstr("text.wav"), HasSubstr("no audio file")));
  EXPECT_THAT(refusal<InputError>([&] { read_audio_info(dir / "folder.wav"); }),
              HasSubstr("a folder"));
  write_with_library(dir / "slow.wav", SF_FORMAT_WAV | SF_FORMAT_PCM_16, {0, 0}, 1, 10);
  EXPECT_THAT(refusal<InputError>([&] { read_audio_info(dir / "slow.wav"); }), HasSubstr("10 Hz"));
  write_with_library(dir / "wide.wav", SF_FORMAT_WAV | SF_FORMAT_PCM_16, std::vector<float>(100),
                     100);
  EXPECT_THAT(refusal<InputError>([&] { read_audio_info(dir / "wide.wav"); }),
              HasSubstr("100 channels"));
}

TEST(AudioFile, WhatCannotBeWrittenIsRefused) {
  const TempDir dir;
  EXPECT_THAT(
      refusal<UsageError>([&] { AudioWriter(dir / "x.mp3", 44100, 2, SampleFormat::kPcm16); }),
      HasSubstr(".wav or .flac"));
  EXPECT_THAT(
      refusal<UsageError>([&] { AudioWriter(dir / "x.flac", 44100, 2, SampleFormat::kFloat32); }),
      HasSubstr("use .wav for floats"));
  EXPECT_THAT(
      refusal<UsageError>([&] { AudioWriter(dir / "x.flac", 44100, 9, SampleFormat::kPcm16); }),
      HasSubstr("9 channels"));
  EXPECT_THAT(
      refusal<IoError>([&] { AudioWriter(dir / "no/x.wav", 44100, 2, SampleFormat::kPcm16); }),
      HasSubstr("no/x.wav"));
  EXPECT_TRUE(fs::is_empty(dir.path()));
}

TEST(AudioFile, DamagedFilesAreReadOrRefused) {
  const TempDir dir;
  const auto samples = tone(3000, 2, 0.05);
  write(dir / "a.wav", samples, 2, SampleFormat::kPcm24);
  write(dir / "b.flac", samples, 2, SampleFormat::kPcm16);
  write_with_library(dir / "c.ogg", SF_FORMAT_OGG | SF_FORMAT_VORBIS, samples, 2);
  write_with_library(dir / "d.mp3", SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III, samples, 2);
  for (const char* name : {"a.wav", "b.flac", "c.ogg", "d.mp3"}) {
    const std::string bytes = read_text_file(dir / name);
    const auto counts = test::read_mutated(dir / name, bytes, {.rounds = 100}, [&] {
      AudioReader reader(dir / name);
      std::vector<float> block(static_cast<std::size_t>(4096 * reader.info().channels));
      // What a header promises need not be there: at most so much is asked for.
      for (int64_t at = 0; at < std::min<int64_t>(reader.info().frames, 20'000); at += 4096) {
        reader.read(at, 4096, block.data());
      }
    });
    // FLAC has a checksum over every frame; the others take some damage for sound.
    EXPECT_EQ(counts.accepted > 0, std::string(name) != "b.flac") << name;
    EXPECT_GT(counts.refused, 0) << name;
  }
}

}  // namespace
}  // namespace stemfabric
