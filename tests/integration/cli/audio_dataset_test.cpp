// `stemfabric dataset --audio` as a user runs it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "runtime/io/file.h"
#include "tests/integration/stemfabric.h"
#include "tests/trainer/audio_data/audio_files.h"
#include "trainer/audio_data/audio_dataset.h"

namespace stemfabric::test {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

class AudioDatasetCommand : public testing::Test {
 protected:
  void put_song(const std::string& name, uint32_t seed) const {
    std::vector<std::vector<float>> stems;
    for (const std::string_view stem : kStemNames) {
      stems.push_back(noise(8000, ++seed));
      put_audio(dir_ / "songs" / name / (std::string(stem) + ".flac"), stems.back());
    }
    put_audio(dir_ / "songs" / name / "mixture.flac", sum(stems));
  }
  ProcessResult dataset(std::vector<std::string> more) const {
    std::vector<std::string> args = {"--quiet",      "dataset", "--audio",     "songs",
                                     "--output-dir", "sets",    "--run-label", "demo"};
    args.insert(args.end(), more.begin(), more.end());
    return run_stemfabric(args, dir_.path());
  }

  TempDir dir_;
};

TEST_F(AudioDatasetCommand, MakesADataSetAndShowsWhatItFound) {
  put_song("alpha", 100);
  put_song("beta", 200);
  put_song("gamma", 300);
  put_audio(dir_ / "songs/broken/vocals.wav", noise(5, 1));
  const ProcessResult made =
      dataset({"--train-ratio", "0.5", "--seed", "3", "--audit", "audit.json"});
  ASSERT_EQ(made.status, 0) << made.err;
  EXPECT_THAT(made.out,
              AllOf(HasSubstr("alpha"), HasSubstr("vdbhps"),
                    HasSubstr("left out: broken: is 0.000 s long"), HasSubstr("4 tracks: "),
                    HasSubstr(", 1 left out; 0 reused"), HasSubstr("layout tracks, 44100 Hz")));
  const AudioDatasetFolder set = open_audio_dataset(dir_ / "sets/demo");
  EXPECT_EQ(set.train.size() + set.validation.size(), 3U);
  EXPECT_EQ(set.manifest.train_ratio, 0.5);
  EXPECT_EQ(set.manifest.split_seed, 3);
  const auto audit = nlohmann::json::parse(read_text_file(dir_ / "audit.json"));
  EXPECT_EQ(audit.at("tracks").size(), 4U);
  EXPECT_EQ(audit.at("tracks")[0].at("files").size(), 7U);

  const ProcessResult again = dataset({"--overwrite", "--set", "audio.sample_rate=22050"});
  ASSERT_EQ(again.status, 0) << again.err;
  EXPECT_THAT(again.out, HasSubstr("layout tracks, 22050 Hz"));
}

TEST_F(AudioDatasetCommand, WrongCallsAreNamed) {
  put_song("alpha", 100);
  const auto expect = [](const ProcessResult& result, int status, const auto& what) {
    EXPECT_EQ(result.status, status) << result.err;
    EXPECT_THAT(result.err, what);
    EXPECT_THAT(result.out, IsEmpty());
  };
  expect(dataset({"--input", "x"}), 2, HasSubstr("either --input FILE (records) or --audio PATH"));
  expect(dataset({"--time-bins", "3"}), 2, HasSubstr("--time-bins has no meaning with --audio"));
  expect(dataset({"--layout", "track"}), 2, HasSubstr("did you mean 'tracks'?"));
  expect(dataset({"--layout", "musdb18"}), 3, HasSubstr("has no folder train"));
  expect(dataset({"--set", "data.stem_map.perc=prc"}), 2, HasSubstr("did you mean 'perc'?"));
  expect(dataset({"--set", "data.stem_map.vocals=a + "}), 2, HasSubstr("data.stem_map.vocals"));
  expect(run_stemfabric({"dataset", "--output-dir", "s", "--run-label", "x"}, dir_.path()), 2,
         HasSubstr("give either"));
  expect(run_stemfabric(
             {"dataset", "--input", "x", "--output-dir", "s", "--run-label", "x", "--set", "a.b=1"},
             dir_.path()),
         2, HasSubstr("--set has no meaning with --input"));
  expect(run_stemfabric({"dataset", "--audio", "nowhere", "--output-dir", "s", "--run-label", "x"},
                        dir_.path()),
         3, HasSubstr("nowhere: no such folder"));
  EXPECT_FALSE(fs::exists(dir_ / "sets"));
}

TEST_F(AudioDatasetCommand, ChecksWhatWasMade) {
  put_song("alpha", 100);
  put_song("beta", 200);
  put_song("gamma", 300);
  ASSERT_EQ(dataset({}).status, 0);
  const auto check = [&](std::vector<std::string> more = {}) {
    more.insert(more.begin(), {"dataset", "--check", "sets/demo"});
    return run_stemfabric(more, dir_.path());
  };
  const ProcessResult whole = check();
  EXPECT_EQ(whole.status, 0) << whole.err;
  EXPECT_THAT(whole.out, HasSubstr("sets/demo: intact, 3 tracks, hash "));
  EXPECT_THAT(check({"--overwrite"}).err, HasSubstr("--overwrite has no meaning with --check"));

  std::vector<fs::path> damaged;
  for (const auto& track : open_audio_dataset(dir_ / "sets/demo").train) {
    damaged.push_back(track->path());
  }
  ASSERT_GE(damaged.size(), 2U);
  for (const fs::path& file : damaged) {  // in the samples, where opening does not look
    std::string bytes = read_text_file(file);
    bytes[bytes.size() - 100] ^= 4;
    write_text_file(file, bytes);
  }
  const ProcessResult bad = check();
  EXPECT_EQ(bad.status, 3);
  EXPECT_THAT(bad.out, IsEmpty());
  for (const fs::path& file : damaged) {
    EXPECT_THAT(bad.err, HasSubstr(file.filename().string()));
  }
  EXPECT_EQ(run_stemfabric({"dataset", "--check", "songs"}, dir_.path()).status, 3);
}

TEST_F(AudioDatasetCommand, NothingUsableIsStatusThreeWithTheReasons) {
  put_audio(dir_ / "songs/short/vocals.wav", noise(5, 1));
  put_audio(dir_ / "songs/silent/vocals.wav", std::vector<float>(20'000, 0.0F));
  const ProcessResult result = dataset({"--audit", "audit.json"});
  EXPECT_EQ(result.status, 3);
  EXPECT_THAT(result.out, AllOf(HasSubstr("left out: short"), HasSubstr("left out: silent")));
  EXPECT_THAT(result.err, AllOf(HasSubstr("none of its 2 tracks can be used"),
                                HasSubstr("nothing was written")));
  EXPECT_TRUE(fs::exists(dir_ / "audit.json"));
  EXPECT_TRUE(fs::is_empty(dir_ / "sets"));
}

}  // namespace
}  // namespace stemfabric::test
