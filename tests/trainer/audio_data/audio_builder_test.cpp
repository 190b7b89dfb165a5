#include "trainer/audio_data/audio_builder.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "runtime/io/file.h"
#include "tests/trainer/audio_data/audio_files.h"
#include "trainer/audio/resample.h"
#include "trainer/audio_data/audio_dataset.h"
#include "trainer/audio_data/zero_phase.h"
#include "trainer/data/split.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;
using test::noise;
using test::planar;
using test::put_audio;
using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Le;

constexpr int64_t kFrames = 9001;

class AudioBuilder : public testing::Test {
 protected:
  AudioBuilder() {
    set_log_level(LogLevel::kError);
    options_.root = dir_ / "songs";
    options_.layout = TrackLayout::kTracks;
    options_.output_dir = dir_ / "sets";
    options_.run_label = "one";
    options_.threads = 2;
  }
  ~AudioBuilder() override { set_log_level(LogLevel::kInfo); }

  // Writes <track>/<source>.wav with another noise for every track and source.
  std::vector<float> put(const std::string& track, const std::string& source,
                         int64_t frames = kFrames, test::AudioShape shape = {}) {
    const auto seed = static_cast<uint32_t>(std::hash<std::string>()(track + "/" + source));
    auto samples = noise(frames, seed, shape.channels);
    put_audio(options_.root / track / (source + ".wav"), samples, shape);
    return samples;
  }
  void put_demo(const std::string& track) {
    std::vector<std::vector<float>> stems;
    for (const std::string_view stem : kStemNames) {
      stems.push_back(put(track, std::string(stem)));
    }
    put_audio(options_.root / track / "mixture.wav", test::sum(stems));
  }

  AudioDatasetSummary build() {
    audit_ = {};
    return build_audio_dataset(options_, audit_);
  }
  std::string refusal() {
    try {
      build();
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  }
  AudioDatasetFolder open() const {
    return open_audio_dataset(options_.output_dir / options_.run_label);
  }
  // The only track of a data set that was built from one.
  std::shared_ptr<const AudioTrack> only() {
    build();
    return open().train.at(0);
  }
  const TrackAudit& audit_of(const std::string& id) const {
    const auto found = std::ranges::find(audit_.tracks, id, &TrackAudit::id);
    EXPECT_NE(found, audit_.tracks.end()) << id;
    return *found;
  }
  static std::vector<std::string> texts(const TrackAudit& audit) {
    std::vector<std::string> result;
    for (const AudioProblem& problem : audit.problems) {
      result.push_back(problem.text);
    }
    return result;
  }
  static std::vector<float> samples_of(const AudioTrack& track, int stem) {
    const int64_t frames = track.frames();
    std::vector<float> result(static_cast<std::size_t>(2 * frames));
    for (int c = 0; c < 2; ++c) {
      track.add(stem, c, 0, frames, 1.0F, result.data() + c * frames);
    }
    return result;
  }
  static std::vector<float> mixture_of(const AudioTrack& track) {
    const int64_t frames = track.frames();
    std::vector<float> mixture(static_cast<std::size_t>(2 * frames), 0.0F);
    for (int c = 0; c < 2; ++c) {
      for (int p = 0; p < kAudioParts; ++p) {
        if (track.pcm(p)) {
          track.add(p, c, 0, frames, 1.0F, mixture.data() + c * frames);
        }
      }
    }
    return mixture;
  }
  DType stored(const AudioTrack& track, const char* tensor) const {
    return SafetensorsFile(options_.output_dir / options_.run_label / track.info().file)
        .at(tensor)
        .dtype();
  }

  test::TempDir dir_;
  AudioDatasetOptions options_;
  AudioAudit audit_;
};

TEST_F(AudioBuilder, HoldsTheSamplesAsTheyAre) {
  for (const char* track : {"alpha", "beta", "gamma", "delta", "epsilon"}) {
    put_demo(track);
  }
  const AudioDatasetSummary summary = build();
  EXPECT_EQ(summary.train + summary.validation, 5);
  EXPECT_EQ(summary.left_out, 0);
  const AudioDatasetFolder set = open();
  EXPECT_EQ(set.hash, summary.hash);
  EXPECT_EQ(set.train.size(), static_cast<std::size_t>(summary.train));
  for (const auto* side : {&set.train, &set.validation}) {
    for (const auto& track : *side) {
      const std::string& id = track->info().id;
      if (!summary.moved_one) {
        EXPECT_EQ(side == &set.train, split_position(id, 0) < 0.8) << id;
      }
      double energy = 0;
      std::vector<std::vector<float>> stems;
      for (int s = 0; s < kStemCount; ++s) {
        const std::string name(kStemNames[static_cast<std::size_t>(s)]);
        stems.push_back(planar(put(id, name)));
        EXPECT_EQ(samples_of(*track, s), stems.back()) << id << " " << name;
        EXPECT_EQ(stored(*track, ("pcm." + name).c_str()), DType::kI16);
      }
      const auto mixture = test::sum(stems);
      for (const float x : mixture) {
        energy += static_cast<double>(x) * static_cast<double>(x);
      }
      EXPECT_FALSE(track->info().remainder);
      EXPECT_EQ(mixture_of(*track), mixture);
      EXPECT_NEAR(track->info().gain, 0.1 / std::sqrt(energy / (2 * kFrames)), 1e-9);
      EXPECT_LE(*audit_of(id).sum_error_db, -190);
      EXPECT_TRUE(track->intact());
    }
  }
  options_.run_label = "again";
  options_.threads = 1;
  EXPECT_EQ(build().hash, summary.hash);
}

TEST_F(AudioBuilder, LeavesOutWhatCannotBeUsed) {
  put("good", "vocals");
  put("copy", "vocals");
  fs::copy_file(options_.root / "good/vocals.wav", options_.root / "copy/vocals.wav",
                fs::copy_options::overwrite_existing);
  put("cut off", "vocals");
  fs::resize_file(options_.root / "cut off/vocals.wav", 5000);
  put("one frame", "vocals", 1);
  put("unmapped", "kazoo");
  put("unseparated", "mixture");
  put("three channels", "vocals", kFrames, {.channels = 3});
  put_audio(options_.root / "silent/vocals.wav", std::vector<float>(2 * kFrames, 0.0F));
  fs::create_directories(options_.root / "text");
  test::put_file(options_.root / "text/vocals.wav", "not audio");
  put("damaged", "vocals", kFrames, {.format = SampleFormat::kFloat32});
  {  // a NaN in the last frame
    std::string bytes = read_text_file(options_.root / "damaged/vocals.wav");
    const float nan = std::numeric_limits<float>::quiet_NaN();
    bytes.replace(bytes.size() - 4, 4, reinterpret_cast<const char*>(&nan), 4);
    test::put_file(options_.root / "damaged/vocals.wav", bytes);
  }
  const AudioDatasetSummary summary = build();
  EXPECT_EQ(summary.train, 1);
  EXPECT_EQ(summary.left_out, 9);
  const auto why = [&](const char* id) {
    EXPECT_FALSE(audit_of(id).usable);
    return texts(audit_of(id)).at(0);
  };
  // The copy comes first by name: the other one is left out.
  EXPECT_TRUE(audit_of("copy").usable);
  EXPECT_THAT(why("good"), HasSubstr("the same audio as the track copy"));
  EXPECT_THAT(why("cut off"), HasSubstr("cut off/vocals.wav"));
  EXPECT_THAT(why("one frame"), HasSubstr("is 0.000 s long; a track has 0.1 to 7200 s"));
  EXPECT_THAT(why("unmapped"), HasSubstr("none of its sources (kazoo) makes a stem"));
  EXPECT_THAT(why("unseparated"), HasSubstr("no source besides its mixture"));
  EXPECT_THAT(why("three channels"),
              AllOf(HasSubstr("three channels/vocals.wav"), HasSubstr("3 channels")));
  EXPECT_THAT(why("silent"), HasSubstr("silent from start to end"));
  EXPECT_THAT(why("text"), HasSubstr("text/vocals.wav"));
  EXPECT_THAT(why("damaged"),
              AllOf(HasSubstr("damaged/vocals.wav"), HasSubstr("not a finite number")));
  const std::string table = audit_table(audit_);
  EXPECT_THAT(table, HasSubstr("left out: damaged: "));
  const auto json = nlohmann::json::parse(audit_text(audit_));
  EXPECT_EQ(json["tracks"].size(), 10U);
  EXPECT_EQ(open().manifest.left_out.size(), 9U);
  // Only the track's file and the manifest.
  std::vector<std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(options_.output_dir)) {
    if (entry.is_regular_file()) {
      files.push_back(entry.path().lexically_relative(options_.output_dir).string());
    }
  }
  EXPECT_THAT(files,
              testing::UnorderedElementsAre("one/manifest.json", "one/train/copy.safetensors"));
}

TEST_F(AudioBuilder, WithoutAUsableTrackNothingIsWritten) {
  put("a", "vocals", 10);
  put("b", "vocals", 20);
  EXPECT_THAT(refusal(),
              AllOf(HasSubstr("none of its 2 tracks can be used for training; a: is 0.000 s"),
                    HasSubstr("nothing was written")));
  EXPECT_EQ(audit_.tracks.size(), 2U);
  EXPECT_TRUE(fs::is_empty(options_.output_dir));
}

TEST_F(AudioBuilder, ReusesWhatHasNotChanged) {
  for (const char* track : {"alpha", "beta", "gamma"}) {
    put_demo(track);
  }
  const AudioDatasetSummary first = build();
  EXPECT_EQ(first.reused, 0);
  options_.run_label = "two";
  AudioDatasetSummary summary = build();
  EXPECT_EQ(summary.reused, 3);
  EXPECT_EQ(summary.hash, first.hash);
  EXPECT_EQ(audit_of("alpha").files.size(), 7U);
  const std::string file = open().train.at(0)->info().file;
  EXPECT_EQ(fs::hard_link_count(options_.output_dir / "two" / file), 2U);

  // In the place of itself; one track changed.
  put("beta", "vocals", kFrames + 1);
  options_.overwrite = true;
  summary = build();
  EXPECT_EQ(summary.reused, 2);
  EXPECT_EQ(audit_of("beta").frames, kFrames + 1);

  // Another map, another rate: nothing fits.
  options_.run_label = "three";
  options_.config.data.stem_map.stems[4] = "absent";
  EXPECT_EQ(build().reused, 0);
  options_.config.data.stem_map.stems[4] = "";
  options_.config.audio.sample_rate = 48000;
  EXPECT_EQ(build().reused, 0);

  // A damaged track is no source. (Its file is not shared: written anew.)
  options_.config.audio.sample_rate = 44100;
  fs::remove_all(options_.output_dir / "two");
  fs::remove_all(options_.output_dir / "three");
  std::string bytes = read_text_file(options_.output_dir / "one" / file);
  bytes.back() ^= 1;
  write_text_file(options_.output_dir / "one" / file, bytes);
  EXPECT_EQ(build().reused, 1);  // beta is the new one
  EXPECT_EQ(open().train.size() + open().validation.size(), 3U);
}

TEST_F(AudioBuilder, OtherRatesAndMonoAreConverted) {
  const auto slow = put("x", "vocals", 5000, {.channels = 1, .rate = 22050});
  const auto plain = put("x", "drums", 9000);
  const auto track = only();
  EXPECT_EQ(track->frames(), 10'000);
  const auto expected = resample(slow, 1, 22050, 44100);
  const auto vocals = samples_of(*track, 0);
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), vocals.begin()));
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), vocals.begin() + 10'000));
  EXPECT_EQ(stored(*track, "pcm.vocals"), DType::kF32);
  EXPECT_EQ(stored(*track, "pcm.drums"), DType::kI16);
  // The shorter file is followed by silence.
  const auto drums = samples_of(*track, 1);
  const auto left = planar(plain);
  EXPECT_TRUE(std::equal(left.begin(), left.begin() + 9000, drums.begin()));
  EXPECT_THAT(std::vector<float>(drums.begin() + 9000, drums.begin() + 10'000), Each(0.0F));
  EXPECT_TRUE(texts(audit_of("x")).empty());  // 23 ms are not worth a note
  EXPECT_EQ(audit_of("x").files.at(1).info.sample_rate, 22050);
}

TEST_F(AudioBuilder, ShortFilesAreNoted) {
  put("x", "vocals", 20'000);
  put("x", "drums", 9000);
  put("x", "mixture", 20'000);
  only();
  EXPECT_THAT(
      texts(audit_of("x")),
      ElementsAre(
          HasSubstr("x/drums.wav: is 0.204 s long, the track 0.454 s; the rest counts as silence"),
          HasSubstr("the mixture file is not the sum of the sources")));
}

TEST_F(AudioBuilder, SumsResidualAndRemainder) {
  const auto vocals = planar(put("x", "lead"));
  const auto choir = planar(put("x", "choir"));
  const auto guitar = planar(put("x", "guitar"));
  const auto noises = planar(put("x", "noises"));
  auto& map = options_.config.data.stem_map;
  map.preset = "none";
  map.stems[0] = "lead + choir";
  auto track = only();  // guitar and noises are in the mixture alone
  const auto all = test::sum({choir, guitar, vocals, noises});
  EXPECT_EQ(samples_of(*track, 0), test::sum({vocals, choir}));
  EXPECT_TRUE(track->info().remainder);
  EXPECT_FALSE(track->present(3));
  EXPECT_EQ(mixture_of(*track), all);
  EXPECT_EQ(stored(*track, "pcm.remainder"), DType::kI16);

  map.stems[3] = "residual";
  options_.overwrite = true;
  track = only();
  EXPECT_EQ(samples_of(*track, 3), test::sum({guitar, noises}));
  EXPECT_FALSE(track->info().remainder);
  EXPECT_EQ(mixture_of(*track), all);
}

TEST_F(AudioBuilder, SumsBeyondFullScaleBecomeFloats) {
  const std::vector<float> loud(2 * kFrames, 0.75F);
  put_audio(options_.root / "x/lead.wav", loud);
  put_audio(options_.root / "x/choir.wav", loud);
  options_.config.data.stem_map.stems[0] = "lead + choir";
  const auto track = only();
  EXPECT_EQ(stored(*track, "pcm.vocals"), DType::kF32);
  EXPECT_THAT(samples_of(*track, 0), Each(1.5F));
  EXPECT_EQ(audit_of("x").files.at(0).clipped, 0);
}

TEST_F(AudioBuilder, LowPassSplitsWithoutLoss) {
  auto low = planar(put("x", "bass"));
  const auto bass = low;
  auto& map = options_.config.data.stem_map;
  map.stems[2] = "bass - lowpass(bass, 120)";
  map.stems[5] = "lowpass(bass, 120)";
  const auto track = only();
  zero_phase_lowpass(low.data(), kFrames, 120, 44100);
  zero_phase_lowpass(low.data() + kFrames, kFrames, 120, 44100);
  EXPECT_EQ(samples_of(*track, 5), low);
  const auto mixture = mixture_of(*track);
  for (std::size_t i = 0; i < bass.size(); ++i) {  // two roundings of values below 1/4
    ASSERT_NEAR(mixture[i], bass[i], 0x1p-26);
  }
}

TEST_F(AudioBuilder, MissingSourcesAreMaskedOrSilent) {
  put("x", "vocals");
  put("x", "drums");
  put("y", "vocals");
  put("y", "drums");
  put("z", "drums");
  auto& config = options_.config;
  config.data.stem_map.preset = "none";
  config.data.stem_map.stems[0] = "vocals";
  config.data.stem_map.stems[3] = "residual";
  build();
  EXPECT_THAT(audit_of("x").present, ElementsAre(true, false, false, true, false, false));
  // What z has besides its vocals cannot be told: it has none that are known.
  EXPECT_THAT(texts(audit_of("z")), ElementsAre(HasSubstr("none of its sources (drums)")));

  config.data.stem_map.missing = "silent";
  options_.overwrite = true;
  build();
  EXPECT_THAT(audit_of("z").present, ElementsAre(true, false, false, true, false, false));
  const AudioDatasetFolder set = open();
  for (const auto* side : {&set.train, &set.validation}) {
    for (const auto& track : *side) {
      if (track->info().id == "z") {
        EXPECT_THAT(samples_of(*track, 0), Each(0.0F));
        EXPECT_EQ(samples_of(*track, 3), planar(put("z", "drums")));
      }
    }
  }
}

TEST_F(AudioBuilder, SplitsOfTheLayoutAndTests) {
  for (const char* track : {"train/a", "validation/b", "test/c"}) {
    put(track, "vocals");
  }
  options_.layout = TrackLayout::kAuto;
  const AudioDatasetSummary summary = build();
  EXPECT_EQ(summary.train, 1);
  EXPECT_EQ(summary.validation, 1);
  EXPECT_EQ(summary.test, 1);
  const AudioDatasetFolder set = open();
  EXPECT_EQ(set.test.at(0)->info().file, "test/c.safetensors");
  EXPECT_EQ(set.validation.at(0)->info().id, "b");
}

TEST_F(AudioBuilder, NoSideStaysEmpty) {
  put("a", "vocals");
  put("b", "vocals");
  for (const double ratio : {0.0, 1.0}) {
    options_.config.data.train_ratio = ratio;
    options_.overwrite = true;
    const AudioDatasetSummary summary = build();
    EXPECT_TRUE(summary.moved_one);
    EXPECT_EQ(summary.train, 1);
    EXPECT_EQ(summary.validation, 1);
    const bool a_first = split_position("a", 0) < split_position("b", 0);
    EXPECT_EQ(open().train.at(0)->info().id, a_first ? "a" : "b");
  }
}

// 76 letters of two bytes: a file name is cut between two of them, and so is the table's column.
TEST_F(AudioBuilder, LongIdsAreCutBetweenCharacters) {
  std::string id;
  for (int i = 0; i < 76; ++i) {
    id += "\u00fc";
  }
  put(id, "vocals");
  put("a", "vocals");
  options_.config.data.train_ratio = 1.0;
  build();
  const AudioDatasetFolder set = open();
  EXPECT_EQ(set.train.size() + set.validation.size(), 2U);
  const std::string file = set.train.at(0)->info().id == id ? set.train[0]->info().file
                                                            : set.validation.at(0)->info().file;
  EXPECT_THAT(file, HasSubstr("/" + id.substr(0, 150) + "-" + sha256_hex(id).substr(0, 8)));
  const std::string table = audit_table(audit_);
  EXPECT_THAT(table, HasSubstr("\n" + id.substr(0, 36) + "...  "));
  EXPECT_THAT(table, HasSubstr("\na" + std::string(20, ' ') + "  "));
}

TEST_F(AudioBuilder, OddIdsBecomeFileNames) {
  put("x", "one");
  put("x", "two");
  put("x", "three");
  test::put_file(options_.root / "tracks.csv",
                 "track,split,vocals\na/b,train,x/one.wav\n../c,train,x/two.wav\na_b,validation,x/"
                 "three.wav\n");
  options_.layout = TrackLayout::kCsv;
  build();
  const AudioDatasetFolder set = open();
  EXPECT_EQ(set.train.at(0)->info().file,
            "train/_._c-" + sha256_hex("../c").substr(0, 8) + ".safetensors");
  EXPECT_EQ(set.train.at(1)->info().file,
            "train/a_b-" + sha256_hex("a/b").substr(0, 8) + ".safetensors");
  EXPECT_EQ(set.validation.at(0)->info().file, "validation/a_b.safetensors");
}

// What is wrong with a folder is found when it is opened, and named.
TEST_F(AudioBuilder, DamagedFoldersAreRefused) {
  put("x", "vocals");
  build();
  const fs::path folder = options_.output_dir / "one";
  EXPECT_TRUE(is_audio_dataset(folder));
  EXPECT_FALSE(is_audio_dataset(dir_ / "songs"));
  const std::string manifest = read_text_file(folder / "manifest.json");
  const auto refused = [&] {
    try {
      open();
    } catch (const InputError& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  std::string edited = manifest;
  edited.replace(edited.find("\"gain\": ") + 8, 1, "9");
  test::put_file(folder / "manifest.json", edited);
  EXPECT_THAT(refused(), HasSubstr("manifest.json"));

  const auto change = [&](auto&& edit) {  // without the seal, as another program may write it
    auto json = nlohmann::json::parse(manifest);
    json.erase("contentsSha256");
    edit(json);
    test::put_file(folder / "manifest.json", json.dump());
    return refused();
  };
  EXPECT_EQ(change([](auto&) {}), "accepted");
  EXPECT_THAT(change([](auto& json) { json["tracks"]["train"][0]["file"] = "../x.safetensors"; }),
              HasSubstr("'../x.safetensors' does not lie in the data set's folder"));
  EXPECT_THAT(change([](auto& json) { json["tracks"]["train"][0]["gain"] = 0; }),
              HasSubstr("x has 9001 frames and gain 0"));
  EXPECT_THAT(change([](auto& json) { json["tracks"]["train"][0]["gain"] = 1e300; }),
              HasSubstr("and gain 1e+300"));
  for (const int rate : {0, -1, 5000, 1000000}) {
    EXPECT_THAT(change([&](auto& json) { json["audio"]["sampleRate"] = rate; }),
                HasSubstr("audio.sampleRate is " + std::to_string(rate)));
  }
  EXPECT_THAT(change([](auto& json) { json["tracks"]["train"][0]["stems"][0] = "kazoo"; }),
              HasSubstr("a stem \"kazoo\""));
  EXPECT_THAT(change([](auto& json) { json["tracks"]["train"][0]["stems"][0] = "drums"; }),
              HasSubstr("has a tensor pcm.vocals, the manifest says otherwise"));
  EXPECT_THAT(change([](auto& json) { json["tracks"]["train"].clear(); }),
              HasSubstr("no track for training"));
  EXPECT_THAT(change([](auto& json) { json.erase("stemMap"); }), HasSubstr("lacks `stemMap`"));

  test::put_file(folder / "manifest.json", manifest);
  const fs::path file = folder / "train/x.safetensors";
  std::string bytes = read_text_file(file);
  bytes[bytes.size() - 100] ^= 4;
  write_text_file(file, bytes);
  EXPECT_FALSE(open().train.at(0)->intact());
  bytes.pop_back();
  write_text_file(file, bytes);
  EXPECT_THAT(refused(), HasSubstr("x.safetensors"));
  fs::remove(file);
  EXPECT_THROW(open(), Error);
}

TEST_F(AudioBuilder, MeasuresTheFiles) {
  auto samples = noise(44100, 5);
  for (std::size_t i = 2 * 22050; i < samples.size(); ++i) {
    samples[i] = 0;
  }
  samples[10] = 1.0F;  // stored as 32767
  samples[21] = -1.0F;
  put_audio(options_.root / "x/vocals.wav", samples);
  build();
  const FileAudit& file = audit_of("x").files.at(0);
  EXPECT_EQ(file.file, "x/vocals.wav");
  EXPECT_EQ(file.source, "vocals");
  EXPECT_EQ(file.info.frames, 44100);
  EXPECT_EQ(file.peak, 1.0);
  EXPECT_EQ(file.clipped, 2);
  EXPECT_DOUBLE_EQ(file.silent, 0.5);
  double energy = 0;
  for (float x : samples) {
    x = std::min(x, 32767.0F / 32768.0F);
    energy += static_cast<double>(x) * static_cast<double>(x);
  }
  EXPECT_NEAR(file.rms, std::sqrt(energy / 88200), 1e-12);
  const std::string table = audit_table(audit_);
  EXPECT_THAT(table, AllOf(HasSubstr("track  split  seconds   rate   stems"),
                           HasSubstr("x      train      1.0  44100  v.....")));
}

TEST_F(AudioBuilder, LabelsAndTargets) {
  put("x", "vocals");
  options_.run_label = "a/b";
  EXPECT_THAT(refusal(), HasSubstr("run label"));
  options_.run_label = "one";
  build();
  EXPECT_THAT(refusal(), HasSubstr("--overwrite"));
  test::put_file(options_.output_dir / "one/mine.txt", "x");
  options_.overwrite = true;
  EXPECT_THAT(refusal(), HasSubstr("mine.txt, which is no part of a data set"));
}

}  // namespace
}  // namespace stemfabric
