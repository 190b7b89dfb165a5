#include "trainer/evaluation/audio_evaluation.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

#include "runtime/core/check.h"
#include "runtime/io/file.h"
#include "tests/support/tiny_training.h"
#include "tests/trainer/separation/mask_weights.h"
#include "trainer/evaluation/bss_evaluation.h"
#include "trainer/evaluation/evaluate.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::TempDir;
using testing::HasSubstr;

constexpr std::size_t kVocals = 0;
constexpr std::size_t kPerc = 4;

class AudioEvaluation : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TempDir;
    test::write_tiny_audio_dataset(folder_->path(), 3, 18000, /*one_lacks=*/true);
  }
  static void TearDownTestSuite() { delete folder_; }
  static fs::path data() { return folder_->path() / "data"; }

  std::string error_of(const EvaluateRequest& request) const {
    try {
      evaluate(ctx_, request);
    } catch (const Error& caught) {
      return caught.what();
    }
    return "no error";
  }

  static TempDir* folder_;
  TempDir out_;
  ExecutionContext ctx_{ExecutionContext::Options{.threads = 2}};
};
TempDir* AudioEvaluation::folder_ = nullptr;

double whole_sdr(const Tensor& stems, int64_t s, const std::function<float(int64_t)>& estimate) {
  const int64_t n = stems.shape()[1] * stems.shape()[2];
  double energy = 0;
  double error = 0;
  for (int64_t i = 0; i < n; ++i) {
    const auto x = static_cast<double>(stems.as<float>()[s * n + i]);
    energy += x * x;
    const double e = x - static_cast<double>(estimate(i));
    error += e * e;
  }
  return 10 * std::log10(energy / error);
}

TEST_F(AudioEvaluation, TheTruthIsPerfectAndTheMixtureIsWhatItIs) {
  const AudioDatasetFolder folder = open_audio_dataset(data());
  for (const auto& track : folder.train) {
    TrackSignals signals = read_track(*track);
    signals.estimates = Tensor(signals.stems.shape(), DType::kF32);
    std::copy_n(signals.stems.as<float>(), signals.stems.elements(), signals.estimates.as<float>());
    const AudioTrackEvaluation have = evaluate_track(ctx_, ctx_, *track, test::kTinyRate, signals);
    EXPECT_EQ(have.id, track->info().id);
    for (std::size_t s = 0; s < kStemCount; ++s) {
      if (!track->present(static_cast<int>(s))) {
        EXPECT_EQ(have.states[s], StemState::kAbsent);
        EXPECT_EQ(s, kPerc);
        continue;
      }
      ASSERT_EQ(have.states[s], StemState::kEvaluated);
      EXPECT_EQ(have.scores[kModelEstimate][s].sdr, kScoreLimitDb);
      EXPECT_EQ(have.scores[kModelEstimate][s].track_sdr, kScoreLimitDb);
      const double mixture = whole_sdr(signals.stems, static_cast<int64_t>(s),
                                       [&](int64_t i) { return signals.mixture.as<float>()[i]; });
      EXPECT_NEAR(have.scores[kMixtureEstimate][s].track_sdr, mixture, 1e-3);
      EXPECT_LT(have.scores[kMixtureEstimate][s].sdr, 3);
      // Tones in registers of their own: masks from the truth do well.
      for (const AudioEstimator oracle : {kIrm, kMwf}) {
        EXPECT_GT(have.scores[oracle][s].sdr, have.scores[kMixtureEstimate][s].sdr + 5);
      }
    }
    const RecordEvaluation record = have.record();
    EXPECT_EQ(record.independent_stems, track->present(kPerc) ? 6 : 5);
    EXPECT_EQ(record.stems[kVocals].model.sdr, kScoreLimitDb);
  }
}

TEST_F(AudioEvaluation, FrameSdrIsThatOfBssEval) {
  Tensor references({2, 2, 10500}, DType::kF32);
  Tensor estimates({2, 2, 10500}, DType::kF32);
  for (int64_t i = 0; i < references.elements(); ++i) {
    references.as<float>()[i] = test::noise(1, static_cast<uint32_t>(i))[0];
    estimates.as<float>()[i] =
        references.as<float>()[i] + 0.3F * test::noise(1, static_cast<uint32_t>(i + 99999))[0];
  }
  for (int64_t i = 2000; i < 4000; ++i) {  // one source is silent in a frame
    references.as<float>()[i] = references.as<float>()[10500 + i] = 0;
  }
  const BssEvaluation want = evaluate_bss(ctx_, references.view(), estimates.view(), 2000, 2000);
  const std::vector<FrameSdr> have = frame_sdr(references.view(), estimates.view(), 2000);
  for (std::size_t s = 0; s < 2; ++s) {
    EXPECT_NEAR(have[s].median, want.median[0][s], 1e-9);
    EXPECT_NEAR(have[s].whole, want.whole[0][s], 1e-9);
  }
}

TEST_F(AudioEvaluation, ReportsOfAModelAndOfTheMixture) {
  const fs::path weights = out_ / "w.safetensors";
  test::write_all_is_vocals(weights, test::mask_model("real", 1));
  const EvaluateResult result = evaluate(
      ctx_, {.dataset_dir = data(), .model = weights, .output_dir = out_ / "e", .split = "train"});
  const json report = json::parse(read_text_file(result.json));
  const AudioDatasetFolder folder = open_audio_dataset(data());
  ASSERT_EQ(report.at("individualEvaluations").size(), folder.train.size());
  const json& vocals = report.at("individualEvaluations")[0].at("stems").at("vocals");
  for (const char* key : {"sdr", "isr", "sir", "trackSdr"}) {
    // The model says that all of the mixture is vocals, which is what the baseline says.
    EXPECT_NEAR(vocals.at(key).get<double>(), vocals.at("mixture").at(key).get<double>(), 1e-2)
        << key;
  }
  EXPECT_GT(vocals.at("sar").get<double>(), 40);  // what little there is, is rounding
  EXPECT_NEAR(report.at("stemMetrics").at("vocals").at("sdr").get<double>(),
              report.at("baselines").at("mixture").at("stemMetrics").at("vocals").at("sdr"), 1e-2);
  EXPECT_EQ(report.at("data").at("hash"), folder.hash);
  EXPECT_EQ(report.at("data").at("targets"), "audio");
  EXPECT_THAT(report.at("definitions").at("sdr").get<std::string>(), HasSubstr("median of 1 s"));
  const std::string html = read_text_file(result.html);
  EXPECT_THAT(html, HasSubstr("src=\"audio/1/vocals.flac\""));
  EXPECT_THAT(html, HasSubstr("data:image/bmp;base64,Qk"));
  for (const char* file : {"mixture.flac", "vocals.flac", "vocals-true.flac", "sub.flac"}) {
    EXPECT_EQ(read_audio_info(out_ / "e" / "audio" / "1" / file).frames, 18000) << file;
  }

  const EvaluateResult baseline =
      evaluate(ctx_, {.dataset_dir = data(), .output_dir = out_ / "b", .split = "train"});
  const json alone = json::parse(read_text_file(baseline.json));
  EXPECT_TRUE(alone.at("model").is_null());
  EXPECT_EQ(alone.at("baselines"), report.at("baselines"));
}

// The report but for the time of day.
json timeless(const fs::path& path) {
  json report = json::parse(read_text_file(path));
  report.erase("timestamp");
  return report;
}

TEST_F(AudioEvaluation, OneThatWasInterruptedGoesOnAfterTheTracksThatAreDone) {
  const fs::path weights = out_ / "w.safetensors";
  test::write_all_is_vocals(weights, test::mask_model("real", 1));
  const EvaluateRequest whole{
      .dataset_dir = data(), .model = weights, .output_dir = out_ / "e", .split = "train"};
  const EvaluateResult first = evaluate(ctx_, whole);
  EXPECT_EQ(first.note, "");
  const json report = timeless(first.json);
  const std::string page = read_text_file(first.html);
  const auto tracks = open_audio_dataset(data()).train.size();
  ASSERT_GE(tracks, 2U);
  const auto result_of = [&](int number) {
    return out_ / "e" / "tracks" / fmt::format("{:04}.json", number);
  };
  // As if it had been killed before the last track, which is then all that is computed.
  fs::remove(result_of(static_cast<int>(tracks)));
  const auto before = fs::last_write_time(result_of(1));
  const EvaluateResult second = evaluate(ctx_, whole);
  EXPECT_EQ(fs::last_write_time(result_of(1)), before);
  EXPECT_TRUE(fs::exists(result_of(static_cast<int>(tracks))));
  EXPECT_EQ(timeless(second.json), report);
  const auto body = [](const std::string& html) { return html.substr(html.find("<table")); };
  EXPECT_EQ(body(read_text_file(second.html)), body(page));
  EXPECT_THAT(second.note, HasSubstr(fmt::format("{} of {} tracks", tracks - 1, tracks)));

  // A kept result says what it holds, not what would be computed: it was really taken.
  json kept = json::parse(read_text_file(result_of(1)));
  kept["stems"]["vocals"]["model"]["sdr"] = 12.5;
  write_text_file(result_of(1), kept.dump());
  evaluate(ctx_, whole);
  EXPECT_EQ(timeless(first.json)["individualEvaluations"][0]["stems"]["vocals"]["sdr"], 12.5);

  // Results that cannot be read, whose sounds are gone or that are of something else are not taken.
  const auto computed_again = [&](const EvaluateRequest& request) {
    return timeless(evaluate(ctx_, request).json) == report;
  };
  write_text_file(result_of(1), kept.dump().substr(0, 100));
  EXPECT_TRUE(computed_again(whole));
  write_text_file(result_of(1), kept.dump());
  fs::remove(out_ / "e" / "audio" / "1" / "vocals.flac");
  EXPECT_TRUE(computed_again(whole));
  write_text_file(result_of(1), kept.dump());
  EvaluateRequest other = whole;
  other.num_overlap = 4;
  EXPECT_EQ(evaluate(ctx_, other).note, "");
}

TEST_F(AudioEvaluation, WrongModelsAndSplitsAreNamed) {
  EXPECT_THAT(error_of({.dataset_dir = data(), .output_dir = out_ / "e", .split = "half"}),
              HasSubstr("expected train, validation or test"));
  EXPECT_THAT(error_of({.dataset_dir = data(), .output_dir = out_ / "e", .split = "test"}),
              HasSubstr("has no tracks in its test split"));
  const fs::path weights = out_ / "w.safetensors";
  ModelConfig other = test::mask_model("real", 1);
  other.audio->sample_rate = 11025;
  test::write_all_is_vocals(weights, other);
  EXPECT_THAT(error_of({.dataset_dir = data(), .model = weights, .output_dir = out_ / "e"}),
              HasSubstr("works at 11025 Hz, but the data set"));
  test::write_tiny_dataset(out_ / "snapshots");
  EXPECT_THAT(
      error_of({.dataset_dir = out_ / "snapshots", .model = weights, .output_dir = out_ / "e"}),
      HasSubstr("is a model of masks, but the data set"));
}

}  // namespace
}  // namespace stemfabric
