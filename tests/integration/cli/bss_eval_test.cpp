// bss-eval as a user runs it.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "runtime/device/device.h"
#include "runtime/io/audio_file.h"
#include "runtime/io/file.h"
#include "tests/integration/stemfabric.h"
#include "tests/support/paths.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::run_stemfabric;
using test::TempDir;
using testing::HasSubstr;

// Half a second of two sources at 8 kHz.
class BssEvalCommand : public testing::Test {
 protected:
  BssEvalCommand() {
    fs::create_directory(dir_ / "r");
    fs::create_directory(dir_ / "e");
    write("r/bass.wav", 1, 0);
    write("r/drums.wav", 0, 1);
    write("e/bass.wav", 0.9, 0.1);
    write("e/drums.wav", 0.2, 0.7);
  }
  void write(const std::string& name, double bass, double drums) const {
    std::vector<float> samples;
    uint32_t noise = 1;
    for (int t = 0; t < 4000; ++t) {
      noise = noise * 1664525 + 1013904223;
      const double hit = static_cast<double>(noise >> 8) / (1 << 24) - 0.5;
      samples.push_back(
          static_cast<float>(bass * 0.3 * std::sin(0.002 * t * (1 + 0.01 * t)) + drums * hit));
    }
    AudioWriter writer(dir_ / name, 8000, 1, SampleFormat::kFloat32);
    writer.write(samples.data(), 4000);
    writer.finish();
  }
  test::ProcessResult run(std::vector<std::string> more = {}) const {
    std::vector<std::string> args = {"bss-eval", "--references", "r", "--estimates", "e"};
    args.insert(args.end(), more.begin(), more.end());
    if (std::find(more.begin(), more.end(), "--device") == more.end()) {
      args.insert(args.end(), {"--device", "cpu"});  // a GPU would be told of
    }
    return run_stemfabric(args, dir_.path());
  }
  TempDir dir_;
};

TEST_F(BssEvalCommand, WritesEverySectionAndATable) {
  const auto result = run({"--output", "m.json", "--window", "0.1", "--hop", "0.05"});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.err, "");
  EXPECT_THAT(result.out, HasSubstr("2 sources of 0.50 s, 8000 Hz, mono; all values in dB"));
  EXPECT_THAT(result.out, HasSubstr("median of 9 frames of 0.1 s"));
  const json got = json::parse(read_text_file(dir_ / "m.json"));
  EXPECT_EQ(got["device"], "cpu");
  EXPECT_EQ(got["sources"], (json{"bass", "drums"}));
  EXPECT_EQ(got["references"], (json{"r/bass.wav", "r/drums.wav"}));
  EXPECT_EQ(got["museval_v4"]["window"], 800);
  EXPECT_EQ(got["museval_v4"]["hop"], 400);
  EXPECT_EQ(got["museval_v4"]["n_frames"], 9);
  EXPECT_EQ(got["museval_v4"]["SIR"][1].size(), 9);
  for (const char* section : {"museval_global", "mir_eval_sources", "si_sdr", "utterance_sdr"}) {
    EXPECT_TRUE(got.contains(section)) << section;
  }
  const double sdr = got["utterance_sdr"]["SDR"][0];
  EXPECT_NEAR(got["museval_global"]["SDR"][0].get<double>(), sdr, 1e-3);
  EXPECT_THAT(result.out, HasSubstr(fmt::format("{:.2f}", sdr)));
}

TEST_F(BssEvalCommand, NothingDependsOnThreads) {
  ASSERT_EQ(run({"--output", "1.json", "--threads", "1"}).status, 0);
  ASSERT_EQ(run({"--output", "3.json", "--threads", "3"}).status, 0);
  EXPECT_EQ(read_text_file(dir_ / "1.json"), read_text_file(dir_ / "3.json"));
}

TEST_F(BssEvalCommand, SilentSourcesAreWarnedOf) {
  write("e/bass.wav", 0, 0);
  const auto result = run({"--output", "m.json", "--window", "0.1", "--hop", "0.1"});
  ASSERT_EQ(result.status, 0);
  EXPECT_THAT(result.err, HasSubstr("e/bass.wav: silent from beginning to end"));
  EXPECT_THAT(result.out, testing::ContainsRegex("bass +- +- +- +- \\| +- +- +- +- +- +0.00"));
  const json got = json::parse(read_text_file(dir_ / "m.json"));
  EXPECT_EQ(got["museval_v4"]["error"], "ValueError");
  EXPECT_TRUE(got["museval_other_sources"]["whole"]["SDR"][0].is_null());
  EXPECT_TRUE(got["museval_other_sources"]["whole"]["SDR"][1].is_number());
}

TEST_F(BssEvalCommand, AnEstimateThatIsItsReference) {
  write("e/drums.wav", 0, 1);
  ASSERT_EQ(run({"--output", "m.json", "--sources", "drums,bass"}).status, 0);
  const json got = json::parse(read_text_file(dir_ / "m.json"));
  EXPECT_EQ(got["sources"], (json{"drums", "bass"}));
  EXPECT_EQ(got["museval_global"]["SDR"][0], "inf");
  EXPECT_EQ(got["si_sdr"]["all_channels"][0], "inf");
}

TEST_F(BssEvalCommand, WrongInputLeavesNoFile) {
  const auto refused = [&](int status, const std::string& message,
                           const std::vector<std::string>& more) {
    const auto result = run(more);
    EXPECT_EQ(result.status, status) << result.err;
    EXPECT_THAT(result.err, HasSubstr("stemfabric bss-eval: error: "));
    EXPECT_THAT(result.err, HasSubstr(message));
  };
  refused(2, "--output is required", {});
  refused(2, "--window", {"--output", "m.json", "--window", "no"});
  refused(2, "--window: 0 s are no number of samples", {"--output", "m.json", "--window", "0"});
  refused(2, "--hop: 1e-05 s are no number of samples", {"--output", "m.json", "--hop", "1e-5"});
  refused(2, "'bass' is given more than once", {"--output", "m.json", "--sources", "bass,bass"});
  refused(3, "r: holds no piano.wav", {"--output", "m.json", "--sources", "piano"});
  refused(1, "nowhere/m.json", {"--output", "nowhere/m.json"});
  refused(2, "--device", {"--output", "m.json", "--device", "gpu"});
  if (!cuda_unavailable_reason().empty()) {
    refused(1, "--device", {"--output", "m.json", "--device", "cuda"});
  }
  fs::remove(dir_ / "e/bass.wav");
  refused(3, "e: holds no bass.wav or bass.flac to go with r/bass.wav", {"--output", "m.json"});
  for (const auto& entry : fs::directory_iterator(dir_.path())) {
    EXPECT_TRUE(entry.is_directory()) << entry.path();
  }
}

}  // namespace
}  // namespace stemfabric
