#include "trainer/audio_data/audio_dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <numbers>
#include <numeric>
#include <set>
#include <thread>

#include "runtime/core/check.h"
#include "runtime/io/file.h"
#include "tests/trainer/audio_data/audio_files.h"
#include "tests/trainer/audio_data/mixed_chunks.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;
using test::noise;
using test::planar;

constexpr int64_t kChunk = 600;

// Tracks written straight into a folder, with all that a test wants to know about them.
struct Source {
  std::string id;
  double gain = 1.0;
  std::map<int, std::vector<float>> stems;  // planar [2, N]
  std::vector<float> remainder;             // empty: none
  bool integers = false;                    // stored as i16
  int64_t frames() const { return static_cast<int64_t>(stems.begin()->second.size()) / 2; }
};

class AudioChunks : public testing::Test {
 protected:
  AudioChunks() {
    sampling_.chunk_frames = kChunk;
    sampling_.augmentations.enable = false;
    sampling_.seed = 7;
  }

  void add(Source source) {
    AudioTrackInfo info{.id = source.id, .frames = source.frames(), .gain = source.gain};
    std::vector<NamedTensor> tensors;
    std::vector<std::vector<int16_t>> integers;
    integers.reserve(kAudioParts);
    const Shape shape{kAudioChannels, info.frames};
    const auto stored = [&](const std::vector<float>& pcm) -> ConstTensorView {
      if (!source.integers) {
        return {pcm.data(), DType::kF32, shape};
      }
      auto& to = integers.emplace_back();
      for (const float x : pcm) {
        to.push_back(static_cast<int16_t>(x * 32768));
      }
      return {to.data(), DType::kI16, shape};
    };
    for (const auto& [stem, pcm] : source.stems) {
      info.present[static_cast<std::size_t>(stem)] = true;
      tensors.push_back(
          {"pcm." + std::string(kStemNames[static_cast<std::size_t>(stem)]), stored(pcm)});
    }
    if (!source.remainder.empty()) {
      info.remainder = true;
      tensors.push_back({"pcm.remainder", stored(source.remainder)});
    }
    info.file = source.id + ".safetensors";
    info.sha256 = write_safetensors(dir_ / info.file, tensors, {});
    info.bytes = fs::file_size(dir_ / info.file);
    tracks_.push_back(std::make_shared<const AudioTrack>(dir_.path(), info));
    sources_.push_back(std::move(source));
  }
  // Three tracks of different lengths, one shorter than a chunk; stems and remainder not
  // everywhere.
  void add_three() {
    add({"long", 2.0, {{0, planar(noise(5003, 1))}, {1, planar(noise(5003, 2))}}, {}});
    add({"short", 0.5, {{0, planar(noise(401, 3))}}, planar(noise(401, 4))});
    add({"middle", 1.0, {{1, planar(noise(1201, 5))}, {5, planar(noise(1201, 6))}}, {}});
  }
  AudioDataset dataset() const { return {tracks_, sampling_}; }

  struct Chunk {
    std::vector<float> stems;
    std::vector<float> mixture;
    std::vector<uint8_t> presence;
    bool operator==(const Chunk&) const = default;
    float stem(int s, int c, int64_t n) const {
      return stems[static_cast<std::size_t>((s * 2 + c) * kChunk + n)];
    }
  };
  static Chunk row(const AudioBatch& batch, int64_t r) {
    const test::MixedChunks chunks = test::mixed(ExecutionContext({.threads = 1}), batch);
    const auto cut = [&](const auto* data, int64_t size) {
      return std::vector(data + r * size, data + (r + 1) * size);
    };
    return {cut(chunks.stems.as<float>(), kStemCount * 2 * kChunk),
            cut(chunks.mixture.as<float>(), 2 * kChunk),
            cut(batch.presence.as<uint8_t>(), kStemCount)};
  }
  static Chunk one(const AudioDataset& set, int64_t sample, int64_t epoch = 0) {
    AudioBatch batch = set.make_batch(1);
    set.gather(std::vector{sample}, epoch, batch);
    return row(batch, 0);
  }
  // Where in a source a stem's row comes from: the place at which factor * source is the row.
  int64_t place_of(const Source& source, int s, const Chunk& chunk, double factor) const {
    const auto& pcm = source.stems.at(s);
    const int64_t frames = source.frames();
    for (int64_t first = 0; first < frames; ++first) {
      bool same = true;
      for (int64_t n = 0; same && n < kChunk; ++n) {
        const float x = first + n < frames ? pcm[static_cast<std::size_t>(first + n)] : 0.0F;
        same = chunk.stem(s, 0, n) == static_cast<float>(factor) * x;
      }
      if (same) {
        return first;
      }
    }
    return -1;
  }

  test::TempDir dir_;
  std::vector<Source> sources_;
  std::vector<std::shared_ptr<const AudioTrack>> tracks_;
  AudioSampling sampling_;
};

TEST_F(AudioChunks, AreCutsOfTheTracks) {
  add_three();
  const AudioDataset set = dataset();
  ASSERT_EQ(set.size(), 9 + 1 + 3);
  for (int64_t sample = 0; sample < set.size(); ++sample) {
    const std::size_t t = sample < 9 ? 0 : sample < 10 ? 1 : 2;
    const Source& source = sources_[t];
    const Chunk chunk = one(set, sample);
    const int64_t first = place_of(source, source.stems.begin()->first, chunk, source.gain);
    ASSERT_GE(first, 0) << sample;
    // One from each equal part of the places where a chunk can begin.
    const int64_t spare = std::max<int64_t>(0, source.frames() - kChunk);
    const int64_t parts = t == 0 ? 9 : t == 1 ? 1 : 3;
    const int64_t part = t == 0 ? sample : t == 1 ? 0 : sample - 10;
    EXPECT_GE(first, part * (spare + 1) / parts);
    EXPECT_LE(first, (part + 1) * (spare + 1) / parts);
    std::vector<float> mixture(2 * kChunk, 0.0F);
    for (int s = 0; s < kStemCount; ++s) {
      const bool present = source.stems.contains(s);
      EXPECT_EQ(chunk.presence[static_cast<std::size_t>(s)], present ? 1 : 0);
      for (int c = 0; c < 2; ++c) {
        for (int64_t n = 0; n < kChunk; ++n) {
          const int64_t at = first + n;
          const float x =
              present && at < source.frames()
                  ? source.stems.at(s)[static_cast<std::size_t>(c * source.frames() + at)]
                  : 0.0F;
          const float expected = static_cast<float>(source.gain) * x;
          ASSERT_EQ(chunk.stem(s, c, n), expected);
          mixture[static_cast<std::size_t>(c * kChunk + n)] += expected;
        }
      }
    }
    for (int c = 0; c < 2 && !source.remainder.empty(); ++c) {
      for (int64_t n = 0; n < kChunk && first + n < source.frames(); ++n) {
        mixture[static_cast<std::size_t>(c * kChunk + n)] +=
            static_cast<float>(source.gain) *
            source.remainder[static_cast<std::size_t>(c * source.frames() + first + n)];
      }
    }
    EXPECT_EQ(chunk.mixture, mixture) << sample;
  }
  EXPECT_EQ(set.id(9, 3), "short @ 0.000 s");
}

TEST_F(AudioChunks, DependOnSeedEpochAndSampleAlone) {
  add_three();
  sampling_.augmentations = {};
  sampling_.samples_per_epoch = 20;
  const AudioDataset set = dataset();
  ASSERT_EQ(set.size(), 20);
  std::vector<Chunk> alone;
  for (int64_t sample = 0; sample < 20; ++sample) {
    alone.push_back(one(set, sample, 3));
  }
  // In any order and company, from several threads and another object.
  std::vector<int64_t> order(20);
  std::iota(order.begin(), order.end(), 0);
  std::ranges::reverse(order);
  std::swap(order[3], order[11]);
  const AudioDataset other = dataset();
  std::vector<std::jthread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      const AudioDataset& mine = t == 2 ? other : set;
      AudioBatch batch = mine.make_batch(8);
      for (std::size_t begin = 0; begin < 20; begin += 7) {
        const auto size = std::min<std::size_t>(7, 20 - begin);
        mine.gather(std::span(order).subspan(begin, size), 3, batch);
        for (std::size_t r = 0; r < size; ++r) {
          EXPECT_EQ(row(batch, static_cast<int64_t>(r)),
                    alone[static_cast<std::size_t>(order[begin + r])]);
        }
        EXPECT_THAT(row(batch, static_cast<int64_t>(size)).stems, testing::Each(0.0F));
        EXPECT_THAT(row(batch, static_cast<int64_t>(size)).mixture, testing::Each(0.0F));
        EXPECT_THAT(row(batch, static_cast<int64_t>(size)).presence, testing::Each(0));
      }
    });
  }
  threads.clear();
  EXPECT_NE(one(set, 4, 4), alone[4]);
  EXPECT_NE(one(set, 5, 3), alone[4]);
  sampling_.seed = 8;
  EXPECT_NE(one(dataset(), 4, 3), alone[4]);
}

// i16 is a float32 in steps of 2^-15: whatever is done to it gives the same bits. It takes half the
// memory, unless speeds change.
TEST_F(AudioChunks, IntegersAreTheFloatsThatTheyStandFor) {
  const auto steps = [](std::vector<float> pcm) {
    for (float& x : pcm) {
      x = std::floor(x * 32768) / 32768;
    }
    return pcm;
  };
  sampling_.augmentations = {};
  sampling_.augmentations.speed_max = 1.05;
  sampling_.samples_per_epoch = 30;
  const auto chunks_of = [&](bool integers) {
    tracks_.clear();
    const std::string name = integers ? "integers" : "floats";
    add({name + " long",
         1.7,
         {{0, steps(planar(noise(5003, 1)))}, {1, steps(planar(noise(5003, 2)))}},
         steps(planar(noise(5003, 7))),
         integers});
    add({name + " short", 0.6, {{0, steps(planar(noise(401, 3)))}}, {}, integers});
    std::vector<Chunk> chunks;
    for (int64_t sample = 0; sample < 30; ++sample) {
      chunks.push_back(one(dataset(), sample));
    }
    return chunks;
  };
  const std::vector<Chunk> integers = chunks_of(true);
  EXPECT_EQ(dataset().part_bytes(), 2 * 4 * kChunk);
  sampling_.augmentations.speed_max = 1;
  EXPECT_EQ(dataset().part_bytes(), 2 * 2 * kChunk);
  sampling_.augmentations.speed_max = 1.05;
  EXPECT_EQ(integers, chunks_of(false));
  EXPECT_EQ(dataset().part_bytes(), 2 * 4 * kChunk);
}

TEST_F(AudioChunks, FixedOnesCoverTheTracks) {
  add_three();
  sampling_.fixed = true;
  sampling_.samples_per_epoch = 4;  // has no meaning here
  const AudioDataset set = dataset();
  ASSERT_EQ(set.size(), 13);
  int64_t covered = 0;
  for (int64_t sample = 0; sample < 9; ++sample) {
    const int64_t first = place_of(sources_[0], 0, one(set, sample), 2.0);
    ASSERT_GE(first, 0);
    EXPECT_LE(first, covered);
    covered = first + kChunk;
    EXPECT_EQ(one(set, sample, 5), one(set, sample, 0));
  }
  EXPECT_EQ(covered, 5003);
}

// Of every stem: what augmentations may do, at the rates that they are asked for.
TEST_F(AudioChunks, AugmentationsChangeStemsApart) {
  std::vector<float> ramp(2 * 2000);
  for (std::size_t n = 0; n < 2000; ++n) {  // left and right can be told, as can the sign
    ramp[n] = 0.25F;
    ramp[2000 + n] = 0.125F;
  }
  add({"x", 1.0, {{0, ramp}, {2, ramp}}, {}});
  AugmentationsConfig& change = sampling_.augmentations;
  change = {.enable = true,
            .loudness_min = 0.5,
            .loudness_max = 2.0,
            .channel_swap = 0.3,
            .polarity = 0.6,
            .remix = 0.0};
  sampling_.samples_per_epoch = 2000;
  const AudioDataset set = dataset();
  int swapped = 0;
  int turned = 0;
  int together = 0;
  double log_sum = 0;
  for (int64_t sample = 0; sample < 2000; ++sample) {
    const Chunk chunk = one(set, sample);
    std::array<double, 2> factors{};
    for (const int s : {0, 2}) {
      const float left = chunk.stem(s, 0, 17);
      const float right = chunk.stem(s, 1, 17);
      const bool swap = std::abs(left) < std::abs(right);
      const double factor = static_cast<double>(swap ? right : left) / 0.25;
      ASSERT_FLOAT_EQ(swap ? left : right, static_cast<float>(0.125 * factor));
      ASSERT_GE(std::abs(factor), 0.5 * (1 - 1e-6));
      ASSERT_LE(std::abs(factor), 2.0 * (1 + 1e-6));
      swapped += swap ? 1 : 0;
      turned += factor < 0 ? 1 : 0;
      log_sum += std::log2(std::abs(factor));
      factors[s == 0 ? 0 : 1] = factor;
    }
    together += (factors[0] < 0) == (factors[1] < 0) ? 1 : 0;
    ASSERT_FLOAT_EQ(chunk.mixture[17], chunk.stem(0, 0, 17) + chunk.stem(2, 0, 17));
  }
  // Five standard deviations of 4000 draws (2000 for the pairs).
  EXPECT_NEAR(swapped, 1200, 5 * std::sqrt(4000 * 0.3 * 0.7));
  EXPECT_NEAR(turned, 2400, 5 * std::sqrt(4000 * 0.6 * 0.4));
  EXPECT_NEAR(together, 2000 * 0.52, 5 * std::sqrt(2000 * 0.52 * 0.48));
  EXPECT_NEAR(log_sum / 4000, 0.0, 5 * std::sqrt(1.0 / 3 / 4000));  // even in decibels
}

TEST_F(AudioChunks, RemixTakesStemsOfOtherSongs) {
  // Every sample tells its track.
  for (int t = 0; t < 5; ++t) {
    const std::vector<float> level(2 * 900, 0.01F * static_cast<float>(t + 1));
    Source source{"song " + std::to_string(t),
                  1.0,
                  {{0, level}, {1, level}},
                  std::vector<float>(2 * 900, 0.5F)};
    if (t == 4) {
      source.stems.erase(1);
    }
    add(std::move(source));
  }
  sampling_.augmentations = {.enable = true,
                             .loudness_min = 1,
                             .loudness_max = 1,
                             .channel_swap = 0,
                             .polarity = 0,
                             .remix = 0.5};
  sampling_.samples_per_epoch = 2000;
  const AudioDataset set = dataset();
  int mixed = 0;
  int with_remainder = 0;
  std::set<std::pair<int, int>> pairs;
  for (int64_t sample = 0; sample < 2000; ++sample) {
    const Chunk chunk = one(set, sample);
    const auto song = [&](int s) {
      return static_cast<int>(std::lround(100 * chunk.stem(s, 0, 0))) - 1;
    };
    const bool whole = chunk.mixture[0] > 0.5F;  // with the remainder of its song
    with_remainder += whole ? 1 : 0;
    if (whole) {
      // One song; its drums are unknown if it has none.
      ASSERT_EQ(chunk.presence[1], song(0) == 4 ? 0 : 1);
      ASSERT_TRUE(song(0) == 4 || song(0) == song(1));
    } else {
      ASSERT_EQ(chunk.presence[1], 1);
      mixed += song(0) != song(1) ? 1 : 0;
      pairs.emplace(song(0), song(1));
    }
  }
  EXPECT_NEAR(with_remainder, 1000, 5 * std::sqrt(500));
  // Of a remix, 4 of 5 x 4 pairs have both from one song.
  EXPECT_NEAR(mixed, 800, 5 * std::sqrt(2000 * 0.4 * 0.6));
  EXPECT_EQ(pairs.size(), 20U);
}

// A tone tells the speed by its pitch.
TEST_F(AudioChunks, SpeedIsOneForTheWholeChunk) {
  constexpr double kPi = std::numbers::pi;
  constexpr int64_t kFrames = 2000;
  const auto tone = [&](double cycles) {
    std::vector<float> pcm(2 * kFrames);
    for (int64_t n = 0; n < kFrames; ++n) {
      pcm[static_cast<std::size_t>(n)] =
          static_cast<float>(0.5 * std::sin(2 * kPi * cycles * static_cast<double>(n)));
    }
    return pcm;  // the right channel is silent
  };
  add({"x", 1.0, {{0, tone(0.03)}, {2, tone(0.07)}}, tone(0.11)});
  sampling_.augmentations = {.enable = true,
                             .loudness_min = 1,
                             .loudness_max = 1,
                             .channel_swap = 0,
                             .polarity = 0,
                             .remix = 0};
  sampling_.samples_per_epoch = 200;
  std::vector<Chunk> as_they_are;
  for (int64_t sample = 0; sample < 200; ++sample) {
    as_they_are.push_back(one(dataset(), sample));
  }
  sampling_.augmentations.speed_min = 0.8;
  sampling_.augmentations.speed_max = 1.25;
  const AudioDataset set = dataset();
  // Magnitude of a chunk's values at so many cycles per sample, in a window without side lobes.
  const auto level = [&](const float* values, double cycles) {
    double real = 0;
    double imaginary = 0;
    for (int64_t n = 0; n < kChunk; ++n) {
      const double t = (static_cast<double>(n) + 0.5) / kChunk;
      const double w = 1 - std::cos(2 * kPi * t);
      const double phase = 2 * kPi * cycles * static_cast<double>(n);
      real += w * static_cast<double>(values[n]) * std::cos(phase);
      imaginary += w * static_cast<double>(values[n]) * std::sin(phase);
    }
    return std::hypot(real, imaginary) * 2 / kChunk;
  };
  std::map<int64_t, int> speeds;
  for (int64_t sample = 0; sample < 200; ++sample) {
    const Chunk chunk = one(set, sample);
    int64_t speed = 0;
    double most = 0;
    for (int64_t percent = 80; percent <= 125; ++percent) {
      const double at = level(chunk.stems.data(), 0.03 * static_cast<double>(percent) / 100);
      if (at > most) {
        most = at;
        speed = percent;
      }
    }
    ++speeds[speed];
    const double ratio = static_cast<double>(speed) / 100;
    ASSERT_NEAR(level(chunk.stems.data(), 0.03 * ratio), 0.5, 0.01);
    ASSERT_NEAR(level(chunk.stems.data() + std::ptrdiff_t{4} * kChunk, 0.07 * ratio), 0.5, 0.01);
    ASSERT_NEAR(level(chunk.mixture.data(), 0.11 * ratio), 0.5, 0.01);  // the remainder
    for (int64_t n = 0; n < kChunk; ++n) {
      ASSERT_EQ(chunk.stem(0, 1, n), 0.0F);
    }
    if (speed == 100) {
      ASSERT_EQ(chunk, as_they_are[static_cast<std::size_t>(sample)]);
    }
  }
  EXPECT_EQ(speeds.begin()->first, 80);
  EXPECT_EQ(speeds.rbegin()->first, 125);
  EXPECT_GT(speeds.size(), 40U);  // of 46
}

TEST_F(AudioChunks, QuietChunksAreDrawnAgain) {
  std::vector<float> half(2 * 40'000, 0.0F);  // sounds in its second half
  std::fill(half.begin() + 20'000, half.begin() + 40'000, 0.25F);
  std::fill(half.begin() + 60'000, half.end(), 0.25F);
  add({"x", 1.0, {{0, half}}, {}});
  sampling_.samples_per_epoch = 400;
  const auto quiet = [&] {
    const AudioDataset set = dataset();
    int count = 0;
    for (int64_t sample = 0; sample < set.size(); ++sample) {
      count += one(set, sample).mixture[kChunk - 1] == 0.0F ? 1 : 0;
    }
    return count;
  };
  EXPECT_NEAR(quiet(), 200, 50);
  sampling_.min_mean_abs = 0.2;
  // About half of the draws fail; eight in a row do in 1 of 256 chunks.
  EXPECT_LE(quiet(), 10);
  sampling_.min_mean_abs = 0.9;  // never: the last draw stays
  EXPECT_NEAR(quiet(), 200, 50);
  // Also at other speeds.
  sampling_.augmentations = {.enable = true,
                             .loudness_min = 1,
                             .loudness_max = 1,
                             .channel_swap = 0,
                             .polarity = 0,
                             .remix = 0,
                             .speed_min = 0.9,
                             .speed_max = 1.1};
  sampling_.min_mean_abs = 0.2;
  sampling_.samples_per_epoch = 40;
  EXPECT_LE(quiet(), 4);
}

TEST_F(AudioChunks, HashesTellTracksAndTheirOrder) {
  add_three();
  const std::string hash = hash_of_tracks(tracks_);
  std::swap(tracks_[0], tracks_[1]);
  EXPECT_NE(hash_of_tracks(tracks_), hash);
  std::swap(tracks_[0], tracks_[1]);
  EXPECT_EQ(hash_of_tracks(tracks_), hash);
  tracks_.pop_back();
  EXPECT_NE(hash_of_tracks(tracks_), hash);
}

TEST(AudioSamplings, OfAConfiguration) {
  Config config;
  config.audio.chunk_size = 4096;
  config.audio.min_mean_abs = 0.25;
  config.data.samples_per_epoch = 11;
  config.augmentations.remix = 0.75;
  config.training.seed = 5;
  const AudioSampling training = training_sampling(config);
  EXPECT_EQ(training.chunk_frames, 4096);
  EXPECT_EQ(training.min_mean_abs, 0.25);
  EXPECT_EQ(training.samples_per_epoch, 11);
  EXPECT_EQ(training.augmentations.remix, 0.75);
  EXPECT_EQ(training.seed, 5U);
  EXPECT_FALSE(training.fixed);
  const AudioSampling validation = validation_sampling(config);
  EXPECT_TRUE(validation.fixed);
  EXPECT_EQ(validation.chunk_frames, 4096);
}

}  // namespace
}  // namespace stemfabric
