// Samples and files of demo songs. Tests that need FluidSynth and a font are skipped where they are
// not installed (scripts/install_deps.sh installs both).
#include "trainer/demo_songs/demo_songs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "runtime/core/check.h"
#include "runtime/io/audio_file.h"
#include "runtime/io/file.h"
#include "tests/support/paths.h"
#include "trainer/demo_songs/song_sound.h"
#include "trainer/demo_songs/sound_font.h"
#include "trainer/snapshot/schema.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;
using test::TempDir;
using testing::HasSubstr;

constexpr int kRate = 44100;

#define SF_NEEDS_SOUND_FONT()                                            \
  if (find_sound_font().empty()) {                                       \
    GTEST_SKIP() << "no sound font is installed; " << sound_font_hint(); \
  }                                                                      \
  static_assert(true)

// Cycles per second between the first and the last rising zero crossing of channel 0.
double zero_crossing_frequency(const std::vector<float>& samples, int64_t from, int64_t to) {
  double first = -1.0, last = -1.0;
  int64_t crossings = 0;
  for (int64_t i = from + 1; i < to; ++i) {
    const double a = samples[static_cast<std::size_t>(2 * i - 2)];
    const double b = samples[static_cast<std::size_t>(2 * i)];
    if (a < 0.0 && b >= 0.0) {
      last = static_cast<double>(i) - b / (b - a);
      if (first < 0.0) {
        first = last;
      } else {
        ++crossings;
      }
    }
  }
  return static_cast<double>(crossings) * kRate / (last - first);
}

int64_t first_sound(const std::vector<float>& samples) {
  const auto at = std::find_if(samples.begin(), samples.end(), [](float x) { return x != 0.0f; });
  return (at - samples.begin()) / 2;
}

TEST(DemoSongSound, SineHasItsPitchLevelAndPlace) {
  Layer layer{.sound = Sound::kSine,
              .notes = {{.start = 1.0, .length = 1.0, .key = 33, .velocity = 127}}};
  const int64_t frames = 3 * kRate;
  const auto samples = play_sine(layer, 60.0, kRate, frames, false);
  ASSERT_EQ(samples.size(), static_cast<std::size_t>(2 * frames));
  EXPECT_NEAR(zero_crossing_frequency(samples, kRate + 2000, 2 * kRate), 55.0, 0.05);
  EXPECT_GE(first_sound(samples), kRate);
  for (std::size_t i = static_cast<std::size_t>(2 * (2.05 * kRate + 1)); i < samples.size(); ++i) {
    ASSERT_EQ(samples[i], 0.0f);
  }
  // A crest after half a second: 27.5 whole cycles and a quarter.
  const double crest = 27.25 / 55.0;
  EXPECT_NEAR(samples[2 * static_cast<std::size_t>(std::lround((1.0 + crest) * kRate))],
              std::exp(-0.7 * crest), 1e-4);
}

TEST(DemoSongSound, MixtureIsTheSumAtTheWantedLevels) {
  const int64_t frames = kRate;
  std::array<std::vector<float>, kStemCount> stems;
  for (std::size_t s = 0; s < kStemCount; ++s) {
    stems[s].resize(static_cast<std::size_t>(2 * frames));
    for (std::size_t i = 0; i < stems[s].size(); ++i) {
      const double t = static_cast<double>(i / 2) / kRate;
      stems[s][i] = static_cast<float>(
          0.01 * static_cast<double>(s + 1) *
          std::sin(2.0 * std::numbers::pi * (50.0 + 97.0 * static_cast<double>(s)) * t));
    }
  }
  stems[4].clear();                                   // absent
  std::fill(stems[3].begin(), stems[3].end(), 0.0f);  // silent
  const SongSound sound = mix_stems(stems, frames, kRate, 0.0, 0.5);
  EXPECT_TRUE(sound.stems[4].empty());
  ASSERT_EQ(sound.stems[3].size(), static_cast<std::size_t>(2 * frames));
  int peak = 0;
  for (std::size_t i = 0; i < sound.mixture.size(); ++i) {
    int sum = 0;
    for (const auto& stem : sound.stems) {
      sum += stem.empty() ? 0 : stem[i];
    }
    ASSERT_EQ(sum, sound.mixture[i]);
    peak = std::max(peak, std::abs(sum));
  }
  EXPECT_NEAR(peak, 0.5 * 32768, 3.0);  // half a step per stem
  const auto rms = [](const std::vector<int16_t>& samples) {
    double energy = 0.0;  // before the fade
    for (std::size_t i = 0; i < samples.size() / 2; ++i) {
      energy += static_cast<double>(samples[i]) * samples[i];
    }
    return std::sqrt(energy);
  };
  EXPECT_NEAR(rms(sound.stems[0]) / rms(sound.stems[1]), 0.80 / 1.15, 0.01);
  EXPECT_NEAR(rms(sound.stems[2]) / rms(sound.stems[5]), 0.85 / 0.62, 0.01);
  EXPECT_LE(std::abs(sound.mixture.back()), 50);  // faded
}

TEST(DemoSongSound, SaturationIsPerStem) {
  std::array<std::vector<float>, kStemCount> stems;
  for (auto& stem : stems) {
    for (int i = 0; i < 2 * kRate; ++i) {
      stem.push_back(static_cast<float>(std::sin(0.01 * (i / 2))));
    }
  }
  const SongSound sound = mix_stems(stems, kRate, kRate, 2.0, 0.9);
  const auto crest = [](const std::vector<int16_t>& samples) {
    double energy = 0.0, peak = 0.0;
    for (const double x : samples) {
      energy += x * x;
      peak = std::max(peak, std::abs(x));
    }
    return peak / std::sqrt(energy / static_cast<double>(samples.size()));
  };
  EXPECT_NEAR(crest(sound.stems[0]), std::numbers::sqrt2, 0.05);
  EXPECT_LT(crest(sound.stems[1]), 1.2);
  EXPECT_LT(crest(sound.stems[2]), 1.3);
}

TEST(SoundFontTest, MissingAndWrongFiles) {
  SF_NEEDS_SOUND_FONT();
  const TempDir dir;
  EXPECT_THROW(SoundFont(dir / "none.sf2", kRate), InputError);
  write_text_file(dir / "text.sf2", "RIFF, but no sound font\n");
  EXPECT_THROW(SoundFont(dir / "text.sf2", kRate), InputError);
  const MappedFile font(find_sound_font());
  AtomicFile half(dir / "half.sf2");
  half.write(font.bytes().first(1 << 20));
  half.commit();
  try {
    SoundFont(dir / "half.sf2", kRate);
    FAIL() << "half a font is taken";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("is cut off: 1048576 of "));
  }
}

TEST(SoundFontTest, PlaysTheNotesAtTheirTime) {
  SF_NEEDS_SOUND_FONT();
  const SoundFont font(find_sound_font(), kRate);
  // An ocarina (nearly a sine), A5 on the second beat of 60 a minute.
  const Layer layer{.program = 79,
                    .notes = {{.start = 1.0, .length = 1.0, .key = 81, .velocity = 100}}};
  const auto samples = font.play({&layer, 1}, 60.0, 2 * kRate);
  ASSERT_EQ(samples.size(), static_cast<std::size_t>(4 * kRate));
  const int64_t start = first_sound(samples);
  EXPECT_GE(start, kRate - 32);  // the nearest multiple of 64
  EXPECT_LE(start, kRate + kRate / 200);
  EXPECT_NEAR(zero_crossing_frequency(samples, kRate + 10000, 2 * kRate - 2000), 880.0, 9.0);
}

DemoSongsOptions short_songs(const fs::path& folder) {
  return {.output_dir = folder, .count = 3, .seed = 5, .duration = 2.0, .jobs = 1};
}

std::vector<int16_t> read_pcm(const fs::path& path) {
  AudioReader reader(path);
  EXPECT_EQ(reader.info().format, "WAV/PCM_16");
  EXPECT_EQ(reader.info().channels, 2);
  EXPECT_EQ(reader.info().sample_rate, kRate);
  std::vector<float> floats(static_cast<std::size_t>(2 * reader.info().frames));
  EXPECT_EQ(reader.read(0, reader.info().frames, floats.data()), reader.info().frames);
  std::vector<int16_t> pcm;
  for (const float x : floats) {
    pcm.push_back(static_cast<int16_t>(std::lround(x * 32768.0f)));
  }
  return pcm;
}

TEST(DemoSongs, StemsOnDiskSumToTheMixture) {
  SF_NEEDS_SOUND_FONT();
  const TempDir dir;
  const DemoSongsOptions options = short_songs(dir / "songs");
  const DemoSongsSummary summary = make_demo_songs(options);
  EXPECT_EQ(summary.made, 3);
  EXPECT_EQ(summary.kept, 0);
  for (int song = 0; song < 3; ++song) {
    const fs::path folder = dir / fmt::format("songs/song-5-0000{}", song);
    const auto truth = nlohmann::json::parse(read_text_file(folder / "song.json"));
    auto rest = read_pcm(folder / "mixture.wav");
    EXPECT_EQ(truth["frames"], rest.size() / 2);
    const SongPlan plan = plan_song(5, song, PatchSet::kTrain, 2.0, false);
    EXPECT_EQ(truth["bpm"], plan.bpm);
    EXPECT_EQ(truth["key"], kKeyNames[static_cast<std::size_t>(plan.scale.tonic)]);
    EXPECT_EQ(truth["chords"].size(), static_cast<std::size_t>(plan.bars()));
    for (std::size_t s = 0; s < kStemCount; ++s) {
      const std::string name(kStemNames[s]);
      ASSERT_EQ(truth["stems"].contains(name), plan.present[s]);
      ASSERT_EQ(fs::exists(folder / (name + ".wav")), plan.present[s]);
      if (plan.present[s]) {
        EXPECT_FALSE(truth["stems"][name]["onsets"].empty());
        const auto stem = read_pcm(folder / (name + ".wav"));
        ASSERT_EQ(stem.size(), rest.size());
        EXPECT_TRUE(std::any_of(stem.begin(), stem.end(), [](int16_t x) { return x > 300; }));
        for (std::size_t i = 0; i < rest.size(); ++i) {
          rest[i] = static_cast<int16_t>(rest[i] - stem[i]);
        }
      }
    }
    EXPECT_TRUE(std::all_of(rest.begin(), rest.end(), [](int16_t x) { return x == 0; }));
  }
}

// The same bytes for any number of jobs, and for a song made alone.
TEST(DemoSongs, ASongDependsOnSeedAndNumber) {
  SF_NEEDS_SOUND_FONT();
  const TempDir dir;
  make_demo_songs(short_songs(dir / "one"));
  DemoSongsOptions parallel = short_songs(dir / "three");
  parallel.jobs = 3;
  make_demo_songs(parallel);
  DemoSongsOptions alone = short_songs(dir / "alone");
  alone.first = 2;
  alone.count = 1;
  make_demo_songs(alone);
  int files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(dir / "one")) {
    if (entry.is_regular_file()) {
      const fs::path name = fs::relative(entry.path(), dir / "one");
      EXPECT_EQ(sha256_file(entry.path()), sha256_file(dir / "three" / name)) << name;
      if (name.string().find("00002") != std::string::npos) {
        EXPECT_EQ(sha256_file(entry.path()), sha256_file(dir / "alone" / name)) << name;
      }
      ++files;
    }
  }
  EXPECT_GE(files, 3 * 5);
}

TEST(DemoSongs, GoesOnWhereItWasStoppedAndNeverMixes) {
  SF_NEEDS_SOUND_FONT();
  const TempDir dir;
  DemoSongsOptions options = short_songs(dir / "songs");
  make_demo_songs(options);
  const fs::path lost = dir / "songs/song-5-00001";
  const std::string before = sha256_file(lost / "mixture.wav");
  fs::remove_all(lost);
  const DemoSongsSummary summary = make_demo_songs(options);
  EXPECT_EQ(summary.made, 1);
  EXPECT_EQ(summary.kept, 2);
  EXPECT_EQ(sha256_file(lost / "mixture.wav"), before);
  options.duration = 3.0;
  try {
    make_demo_songs(options);
    FAIL() << "songs of other options are kept";
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), HasSubstr("song-5-00000 was made with other options"));
  }
  fs::remove(lost / "song.json");
  options.duration = 2.0;
  EXPECT_THROW(make_demo_songs(options), UsageError);
}

}  // namespace
}  // namespace stemfabric
