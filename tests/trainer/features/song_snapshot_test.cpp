// Snapshots of audio files: values at their places, ground truth, and the way into a data set.
#include "trainer/features/song_snapshot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "runtime/core/check.h"
#include "runtime/io/audio_file.h"
#include "runtime/io/file.h"
#include "tests/support/paths.h"
#include "trainer/data/snapshot_dataset.h"
#include "trainer/features/feature_groups.h"
#include "trainer/features/features.h"
#include "trainer/snapshot/sanitize.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;
using std::numbers::pi;
using test::TempDir;
using testing::HasSubstr;

constexpr int kRate = 44100;

ExecutionContext one_thread() { return ExecutionContext({.threads = 1}); }

// Tones with a beat: bass on the left, a higher tone on the right, clicks in both.
struct Parts {
  std::vector<float> bass, lead, drums;  // interleaved stereo
  int64_t frames = 0;

  explicit Parts(double seconds) : frames(std::llround(seconds * kRate)) {
    for (int64_t i = 0; i < frames; ++i) {
      const double t = static_cast<double>(i) / kRate;
      const double beat = std::fmod(t, 0.5);
      const double low = 0.2 * std::sin(2.0 * pi * 110.0 * t);
      const double high = 0.1 * std::sin(2.0 * pi * 3000.0 * t);
      const double click = 0.5 * std::sin(2.0 * pi * 9000.0 * t * t) * std::exp(-60.0 * beat);
      put(bass, 0.9 * low, 0.1 * low);
      put(lead, 0.2 * high, 0.8 * high);
      put(drums, click, click);
    }
  }
  static void put(std::vector<float>& to, double left, double right) {
    to.push_back(static_cast<float>(left));
    to.push_back(static_cast<float>(right));
  }
  std::vector<float> mixture() const {
    std::vector<float> sum = bass;
    for (std::size_t i = 0; i < sum.size(); ++i) {
      sum[i] += lead[i] + drums[i];
    }
    return sum;
  }
};

void write_wav(const fs::path& path, const std::vector<float>& samples, int channels = 2) {
  AudioWriter writer(path, kRate, channels, SampleFormat::kFloat32);
  writer.write(samples.data(), static_cast<int64_t>(samples.size()) / channels);
  writer.finish();
}

void write_song(const fs::path& folder, double seconds) {
  fs::create_directories(folder);
  const Parts parts(seconds);
  write_wav(folder / "mixture.wav", parts.mixture());
  write_wav(folder / "bass.wav", parts.bass);
  write_wav(folder / "vocals.wav", parts.lead);
  write_wav(folder / "drums.wav", parts.drums);
}

const std::vector<float>& group_of(const SongSnapshot& snapshot, FeatureGroup group) {
  return snapshot.record.groups[static_cast<std::size_t>(group)];
}

TEST(SongSnapshotTest, ArraysHaveTheStudiosLengths) {
  const TempDir dir;
  for (const int64_t frames : {2049, 4097, 44100, 250'000, 882'001}) {
    for (const int channels : {1, 2}) {
      SCOPED_TRACE(fmt::format("{} frames, {} channels", frames, channels));
      std::vector<float> samples(static_cast<std::size_t>(frames * channels));
      for (std::size_t i = 0; i < samples.size(); ++i) {
        samples[i] = static_cast<float>(0.3 * std::sin(0.01 * static_cast<double>(i)));
      }
      write_wav(dir / "song.wav", samples, channels);
      const auto snapshot = analyse_song(one_thread(), {.mixture = dir / "song.wav", .stems = {}});
      EXPECT_EQ(snapshot.record.samples, frames);
      EXPECT_EQ(snapshot.record.channels, channels);
      for (std::size_t g = 0; g < kGroupCount; ++g) {
        const auto group = static_cast<FeatureGroup>(g);
        const int64_t raw = raw_length(group, frames, channels);
        EXPECT_EQ(static_cast<int64_t>(group_of(snapshot, group).size()),
                  ceil_div(raw, stride_of(raw)))
            << kGroupNames[g];
      }
      fs::remove(dir / "song.wav");
    }
  }
}

// 5 s: strides of 14 (spectral), 1 (temporal), 2 (harmonic, percussive).
TEST(SongSnapshotTest, ValuesDescribeTheirPlace) {
  const TempDir dir;
  write_song(dir / "song", 5.0);
  const auto snapshot =
      analyse_song(one_thread(), {.mixture = dir / "song/mixture.wav", .stems = {}});
  const auto mixture = Parts(5.0).mixture();
  const auto mono = [&](int64_t i) {
    return 0.5 * (static_cast<double>(mixture[static_cast<std::size_t>(2 * i)]) +
                  static_cast<double>(mixture[static_cast<std::size_t>(2 * i + 1)]));
  };
  const auto rms = [&](int64_t start, int64_t length) {
    double sum = 0.0;
    for (int64_t i = start; i < start + length; ++i) {
      sum += mono(i) * mono(i);
    }
    return std::sqrt(sum / static_cast<double>(length));
  };
  const auto& temporal = group_of(snapshot, FeatureGroup::kTemporal);
  const auto stride = [&](FeatureGroup group) {
    return snapshot.record.strides[static_cast<std::size_t>(group)];
  };
  ASSERT_EQ(stride(FeatureGroup::kTemporal), 1);
  ASSERT_EQ(stride(FeatureGroup::kPercussive), 2);
  for (const int64_t frame : {0, 7, 100, 200}) {
    EXPECT_NEAR(temporal[static_cast<std::size_t>(3 * frame)], rms(1024 * frame, 1024), 1e-6);
  }
  const auto& percussive = group_of(snapshot, FeatureGroup::kPercussive);
  for (const std::size_t i : {0U, 20U, 402U}) {
    const auto start = static_cast<int64_t>(i / 2 + 1) * 512;  // two kept values a frame: 0 and 2
    EXPECT_NEAR(percussive[i], rms(start, 512), 1e-6);
  }
  // Of the 110 Hz on the left, the lead on the right and centred clicks.
  const auto& stereo = group_of(snapshot, FeatureGroup::kStereo);
  for (std::size_t i = 0; i < stereo.size(); ++i) {
    EXPECT_LE(std::abs(stereo[i]), i % 3 == 2 ? pi : 1.0);
  }
  const auto& energy = group_of(snapshot, FeatureGroup::kEnergy);
  EXPECT_GE(energy[2], energy[0]);
  EXPECT_GE(energy[0], energy[3]);
  EXPECT_GT(energy[1], 0.0f);
  EXPECT_NEAR(snapshot.record.context.bpm.value(), 120.0, 3.0);
  ASSERT_EQ(snapshot.transients.size(), 10u);  // every half second
  for (std::size_t i = 0; i < snapshot.transients.size(); ++i) {
    EXPECT_NEAR(snapshot.transients[i].time, 0.5 * static_cast<double>(i), 0.04);
  }
}

TEST(SongSnapshotTest, BandsHoldTheirFrequencies) {
  const auto ctx = one_thread();
  const int64_t frames = kRate;
  std::vector<float> tone(static_cast<std::size_t>(frames));
  for (const double hertz : {60.0, 440.0, 3000.0, 15'000.0}) {
    for (std::size_t i = 0; i < tone.size(); ++i) {
      tone[i] =
          static_cast<float>(0.5 * std::sin(2.0 * pi * hertz * static_cast<double>(i) / kRate));
    }
    const auto bands = band_energies(ctx, tone, kRate, 1);
    ASSERT_EQ(static_cast<int64_t>(bands.size()), raw_length(FeatureGroup::kSpectral, frames, 1));
    const auto mel = [](double f) { return std::log1p(f / 700.0); };
    const auto band = static_cast<std::size_t>(32.0 * mel(hertz) / mel(0.5 * kRate));
    for (const std::size_t frame : {0U, 13U, 82U}) {
      double all = 0.0, near = 0.0;
      for (std::size_t b = 0; b < 32; ++b) {
        const double energy = bands[32 * frame + b];
        all += energy;
        near += b + 1 >= band && b <= band + 1 ? energy : 0.0;
      }
      EXPECT_NEAR(all, 0.125, 0.003);  // the mean square of the sine
      EXPECT_GT(near, 0.999 * all);
    }
  }
}

// A stride keeps every so-manieth of the same values.
TEST(SongSnapshotTest, StridesThinOut) {
  std::vector<float> signal;
  uint32_t state = 7;
  for (int i = 0; i < 30'000; ++i) {
    state = state * 1664525 + 1013904223;
    signal.push_back(static_cast<float>(state >> 8) * 0x1p-23f - 1.0f);
  }
  const auto ctx = one_thread();
  const auto all = band_energies(ctx, signal, kRate, 1);
  for (const int64_t stride : {2, 7, 32, 57}) {
    const auto some = band_energies(ctx, signal, kRate, stride);
    ASSERT_EQ(static_cast<int64_t>(some.size()),
              ceil_div(static_cast<int64_t>(all.size()), stride));
    for (std::size_t i = 0; i < some.size(); ++i) {
      ASSERT_EQ(some[i], all[i * static_cast<std::size_t>(stride)]);
    }
  }
}

// The mixture's energies at the places of the ground truth are near the sum of the stems', which
// are far apart in frequency.
TEST(SongSnapshotTest, GroundTruthLiesWhereTheMixturesValuesLie) {
  const TempDir dir;
  write_song(dir / "song", 5.0);
  const auto snapshot =
      analyse_song(one_thread(), {.mixture = dir / "song/mixture.wav", .stems = dir / "song"});
  const auto& spectral = group_of(snapshot, FeatureGroup::kSpectral);
  ASSERT_GT(spectral.size(), 500u);
  double of_mixture = 0.0, difference = 0.0;
  std::vector<float> sum((spectral.size() + 1) / 2, 0.0f);
  for (std::size_t s = 0; s < kStemCount; ++s) {
    const auto& stem = snapshot.record.stems[s];
    const bool there =
        kStemNames[s] == "bass" || kStemNames[s] == "vocals" || kStemNames[s] == "drums";
    EXPECT_EQ(snapshot.record.has_stem[s], there);
    ASSERT_EQ(stem.size(), there ? sum.size() : 0u);
    for (std::size_t i = 0; i < stem.size(); ++i) {
      EXPECT_GE(stem[i], 0.0f);
      sum[i] += stem[i];
    }
  }
  for (std::size_t i = 0; i < sum.size(); ++i) {
    of_mixture += spectral[2 * i];
    difference += std::abs(spectral[2 * i] - sum[i]);
  }
  EXPECT_LT(difference, 0.1 * of_mixture);
}

TEST(FeaturesTest, SnapshotsBecomeADatasetWithBands) {
  const TempDir dir;
  for (int song = 0; song < 4; ++song) {
    write_song(dir / fmt::format("songs/song-{}", song), 4.0 + song);
  }
  write_wav(dir / "songs/alone.wav", Parts(3.0).mixture());
  const FeaturesSummary summary =
      make_snapshots({.input = dir / "songs", .stems = {}, .output = dir / "one.jsonl", .jobs = 1});
  EXPECT_EQ(summary.songs, 5);
  EXPECT_EQ(summary.with_stems, 4);
  EXPECT_NEAR(summary.seconds, 4 + 5 + 6 + 7 + 3, 1e-6);
  make_snapshots({.input = dir / "songs", .stems = {}, .output = dir / "three.jsonl", .jobs = 3});
  EXPECT_EQ(read_text_file(dir / "one.jsonl"), read_text_file(dir / "three.jsonl"));

  const auto verdicts = sanitize_snapshots(
      {.input = dir / "one.jsonl", .output = dir / "records.jsonl", .report = {}, .threads = 1});
  EXPECT_EQ(verdicts.count(Verdict::kAccept), 5);  // nothing to repair
  const auto built = build_snapshot_dataset({.input = dir / "records.jsonl",
                                             .output_dir = dir / "data",
                                             .run_label = "bands",
                                             .tokens = {.targets = TargetKind::kBands},
                                             .threads = 1});
  EXPECT_EQ(built.records, 5);
  EXPECT_EQ(built.train + built.validation, 4);
  EXPECT_EQ(built.without_stems, 1);
  EXPECT_EQ(built.without_targets, 0);
  EXPECT_EQ(built.dropped_values, 0);
  EXPECT_EQ(built.outputs, 32);
}

TEST(FeaturesTest, OneSong) {
  const TempDir dir;
  write_song(dir / "song", 3.0);
  const FeaturesOptions options = {.input = dir / "song/mixture.wav",
                                   .stems = dir / "song",
                                   .output = dir / "snapshot.json",
                                   .jobs = 1};
  EXPECT_EQ(make_snapshots(options).with_stems, 1);
  const std::string text = read_text_file(dir / "snapshot.json");
  EXPECT_THAT(text, HasSubstr("\"groundTruthStems\":{\"vocals\":["));
  const auto verdicts = sanitize_snapshots(
      {.input = dir / "snapshot.json", .output = dir / "r.jsonl", .report = {}, .threads = 1});
  EXPECT_EQ(verdicts.count(Verdict::kAccept), 1);
}

template <typename ErrorType>
void expect_error(const FeaturesOptions& options, const std::string& message) {
  try {
    make_snapshots(options);
    FAIL() << "no error: " << message;
  } catch (const ErrorType& error) {
    EXPECT_THAT(error.what(), HasSubstr(message));
  }
  EXPECT_FALSE(fs::exists(options.output));
}

TEST(FeaturesTest, WrongInput) {
  const TempDir dir;
  const fs::path out = dir / "o.jsonl";
  write_song(dir / "song", 1.0);
  fs::create_directory(dir / "empty");
  const fs::path mixture = dir / "song/mixture.wav";
  expect_error<InputError>({.input = dir / "none.wav", .stems = {}, .output = out}, "is not there");
  expect_error<InputError>({.input = dir / "empty", .stems = {}, .output = out}, "holds no song");
  expect_error<InputError>({.input = mixture, .stems = dir / "empty", .output = out},
                           "holds no stem");
  expect_error<UsageError>({.input = dir / "song", .stems = dir / "song", .output = out},
                           "--stems belongs to one song");
  expect_error<UsageError>({.input = dir / "song", .stems = {}, .output = dir / "o.json"},
                           "one file *.jsonl");
  fs::copy_file(dir / "song/bass.wav", dir / "song/bass.flac");
  expect_error<InputError>({.input = mixture, .stems = dir / "song", .output = out},
                           "are both the stem bass");
  fs::remove(dir / "song/bass.flac");
  auto longer = Parts(1.0).bass;
  longer.insert(longer.end(), {0.0f, 0.0f});
  fs::remove(dir / "song/bass.wav");
  write_wav(dir / "song/bass.wav", longer);
  expect_error<InputError>({.input = mixture, .stems = dir / "song", .output = out},
                           "bass.wav has 44101 samples, its mixture 44100");
  write_wav(dir / "short.wav", std::vector<float>(4096));
  expect_error<InputError>({.input = dir / "short.wav", .stems = {}, .output = out},
                           "short.wav has 2048 samples");
  write_wav(dir / "three.wav", std::vector<float>(9000), 3);
  expect_error<InputError>({.input = dir / "three.wav", .stems = {}, .output = out}, "3 channels");
  write_text_file(dir / "text.wav", "no audio");
  expect_error<InputError>({.input = dir / "text.wav", .stems = {}, .output = out}, "text.wav");
}

}  // namespace
}  // namespace stemfabric
