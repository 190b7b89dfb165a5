#include "trainer/evaluation/bss_evaluation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "runtime/core/check.h"
#include "runtime/io/audio_file.h"
#include "runtime/io/file.h"
#include "tests/oracles/bss_oracle.h"
#include "tests/support/op_harness.h"
#include "tests/support/paths.h"
#include "trainer/report/bss_eval_json.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::GuardedTensor;
using test::kInf;
using test::kNaN;
using test::TempDir;
using testing::HasSubstr;

// Values within 1e-6 dB (a thousandth of what is promised); from 100 dB up they are rounding noise.
void expect_values(const json& got, const json& expected, const std::string& place) {
  ASSERT_EQ(got.type(), expected.type()) << place << ": " << got << " " << expected;
  if (expected.is_number()) {
    const double a = got.get<double>();
    const double b = expected.get<double>();
    EXPECT_TRUE(std::abs(a - b) <= 1e-6 || (a > 100 && b > 100)) << place << ": " << a << " " << b;
  } else if (expected.is_structured()) {
    ASSERT_EQ(got.size(), expected.size()) << place;
    for (const auto& [key, value] : expected.items()) {
      const bool there = expected.is_array() || got.contains(key);
      ASSERT_TRUE(there) << place << "." << key;
      expect_values(expected.is_array() ? got[std::stoul(key)] : got[key], value,
                    place + "." + key);
    }
  } else {
    EXPECT_EQ(got, expected) << place;
  }
}

json evaluate_golden(const std::string& name, const json& expected) {
  const TempDir dir;
  const fs::path from = test::data_dir() / "bss_eval" / name;
  for (const char* kind : {"references", "estimates"}) {
    fs::create_directory(dir / kind);
    for (std::size_t j = 0; j < expected[kind].size(); ++j) {
      fs::copy_file(from / expected[kind][j].get<std::string>(),
                    dir / kind / fmt::format("{}.wav", j));
    }
  }
  const BssSources sources = read_bss_sources(dir / "references", dir / "estimates", {});
  const int64_t second = sources.sample_rate;
  const BssEvaluation evaluation = evaluate_bss(test::test_context(2), sources.references.view(),
                                                sources.estimates.view(), second, second);
  return json::parse(bss_eval_json(sources, evaluation));
}

TEST(BssEvaluation, AgreesWithMusevalAndMirEval) {
  for (const char* name : {"v2_stereo_2src_silent", "v6_mono_3src_zero"}) {
    const json expected =
        json::parse(read_text_file(test::data_dir() / "bss_eval" / name / "expected.json"));
    json got = evaluate_golden(name, expected);
    std::vector<std::string> sections = {"sample_rate", "n_sources",    "n_channels",
                                         "n_samples",   "museval_v4",   "museval_global",
                                         "si_sdr",      "utterance_sdr"};
    EXPECT_EQ(got.contains("mir_eval_sources"), expected["n_channels"] == 1);
    if (expected["n_channels"] == 1) {
      sections.emplace_back("mir_eval_sources");
    }
    EXPECT_EQ(got.contains("museval_other_sources"), expected.contains("museval_other_sources"));
    if (expected.contains("museval_other_sources")) {
      EXPECT_EQ(got["museval_other_sources"]["zero_references"], json::array());
      got["museval_other_sources"].erase("zero_references");
      sections.emplace_back("museval_other_sources");
    }
    for (const std::string& section : sections) {
      expect_values(got[section], expected[section], std::string(name) + "." + section);
    }
  }
}

// Mono: bss_eval_sources as well, with the taps that the field uses.
TEST(BssEvaluation, SectionsOfAMonoTrack) {
  const GuardedTensor references = GuardedTensor::random({1, 1, 300}, 1);
  GuardedTensor estimates = GuardedTensor::random({1, 1, 300}, 2, -0.5, 0.5);
  for (int64_t t = 0; t < 300; ++t) {
    estimates.set(t, estimates.get(t) + references.get(t));
  }
  BssSources sources;
  sources.names = {"a"};
  sources.references = Tensor(Shape{1, 1, 300}, DType::kF32);
  const BssEvaluation evaluation =
      evaluate_bss(test::test_context(2), references.view(), estimates.view(), 300, 1);
  const auto oracle =
      test::bss_oracle({1, 1, 300, 512, references.values(), estimates.values()}, 0, 300);
  const json got = json::parse(bss_eval_json(sources, evaluation));
  const char* const names[] = {"SDR", "ISR", "SIR", "SAR"};
  for (std::size_t m = 0; m < 4; ++m) {
    const json value = got["museval_global"][names[m]][0];
    if (m == 2) {
      EXPECT_EQ(value, "inf");  // one source: both projections are the same
    } else {
      EXPECT_NEAR(value.get<double>(), oracle[m], 1e-8);
    }
    EXPECT_EQ(got["museval_v4"][names[m]][0][0], value);
    EXPECT_EQ(got["museval_v4"]["median"][names[m]][0], value);
  }
  EXPECT_NEAR(got["mir_eval_sources"]["SDR"][0].get<double>(), oracle[4], 1e-8);
  EXPECT_EQ(got["mir_eval_sources"]["SAR"], got["museval_global"]["SAR"]);
  EXPECT_EQ(got["mir_eval_sources"]["channels"], "mono");
}

TEST(BssEvaluation, MedianLeavesNanOut) {
  EXPECT_EQ(median_without_nan({3, 1, 2}), 2);
  EXPECT_EQ(median_without_nan({4, 1, 3, 2}), 2.5);
  EXPECT_EQ(median_without_nan({kNaN, 5, kNaN, 1, kNaN, 2}), 2);
  EXPECT_EQ(median_without_nan({kInf, 1, kInf}), kInf);
  EXPECT_EQ(median_without_nan({kInf, 1, -kInf}), 1);
  EXPECT_TRUE(std::isnan(median_without_nan({kNaN})));
  EXPECT_TRUE(std::isnan(median_without_nan({})));
}

GuardedTensor signal(int64_t channels, const std::vector<double>& values) {
  GuardedTensor tensor({channels, static_cast<int64_t>(values.size()) / channels}, DType::kF32);
  tensor.assign(values);
  return tensor;
}

TEST(WaveformScores, SiSdrByHand) {
  // One channel: e = 2 r + (1, 1), r ⟂ (1, 1): α = 2.
  const SiSdr one = si_sdr(signal(1, {1, -1}).view(), signal(1, {3, -1}).view());
  EXPECT_DOUBLE_EQ(one.all_channels, 10 * std::log10(8.0 / 2.0));
  EXPECT_DOUBLE_EQ(one.per_channel[0], one.all_channels);
  EXPECT_EQ(one.all_channels_zero_mean, kInf);  // the mean is all that is wrong
  // Two channels with gains of their own: perfect one by one, not together.
  const SiSdr two = si_sdr(signal(2, {1, -1, 1, -1}).view(), signal(2, {3, -3, 1, -1}).view());
  EXPECT_EQ(two.per_channel, (std::vector<double>{kInf, kInf}));
  EXPECT_DOUBLE_EQ(two.all_channels, 10 * std::log10(4.0 * 4.0 / 4.0));  // α = 2
  const SiSdr zero = si_sdr(signal(1, {1, 2}).view(), signal(1, {0, 0}).view());
  EXPECT_TRUE(std::isnan(zero.all_channels));
  const SiSdr silent = si_sdr(signal(1, {0, 0}).view(), signal(1, {1, 2}).view());
  EXPECT_TRUE(std::isnan(silent.all_channels_zero_mean));
}

TEST(WaveformScores, UtteranceSdrByHand) {
  const auto r = signal(2, {3, 0, 0, 4});
  EXPECT_DOUBLE_EQ(utterance_sdr(r.view(), signal(2, {3, 0, 0, 3}).view()),
                   10 * std::log10((25 + 1e-7) / (1 + 1e-7)));
  EXPECT_DOUBLE_EQ(utterance_sdr(r.view(), r.view()), 10 * std::log10((25 + 1e-7) / 1e-7));
  EXPECT_EQ(utterance_sdr(r.view(), signal(2, {0, 0, 0, 0}).view()), 0);
}

// Two folders with files that fit together, to be spoilt.
class BssFilesTest : public testing::Test {
 protected:
  BssFilesTest() {
    for (const char* kind : {"r", "e"}) {
      fs::create_directory(dir_ / kind);
      write(std::string(kind) + "/b.wav", 100, 0.5F);
      write(std::string(kind) + "/a.flac", 100, 0.25F);
      test::put_file(dir_ / (std::string(kind) + "/notes.txt"), "no audio");
    }
  }
  void write(const std::string& name, int64_t frames, float value, int rate = 8000,
             int channels = 2) const {
    AudioWriter writer(dir_ / name, rate, channels, SampleFormat::kPcm16);
    const std::vector<float> samples(static_cast<std::size_t>(frames * channels), value);
    writer.write(samples.data(), frames);
    writer.finish();
  }
  BssSources read(const std::vector<std::string>& names = {}) const {
    return read_bss_sources(dir_ / "r", dir_ / "e", names);
  }
  void expect_refusal(const std::vector<std::string>& parts,
                      const std::vector<std::string>& names = {}) const {
    try {
      read(names);
      ADD_FAILURE() << "accepted; expected " << parts[0];
    } catch (const InputError& error) {
      for (const std::string& part : parts) {
        EXPECT_THAT(error.what(), HasSubstr(part));
      }
    }
  }
  TempDir dir_;
};

TEST_F(BssFilesTest, PairsFilesByName) {
  const BssSources all = read();
  EXPECT_EQ(all.names, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(all.references.shape(), (Shape{2, 2, 100}));
  EXPECT_EQ(all.references.as<float>()[0], 0.25F);
  EXPECT_EQ(all.estimates.as<float>()[200], 0.5F);
  EXPECT_EQ(all.sample_rate, 8000);
  write("r/mixture.wav", 100, 0.1F);
  EXPECT_EQ(read({"b", "a"}).names, (std::vector<std::string>{"b", "a"}));
}

TEST_F(BssFilesTest, CutsAndExtendsEstimatesAsMuseval) {
  write("e/b.wav", 130, 0.5F);
  write("e/a.flac", 70, 0.25F);
  const BssSources sources = read();
  ASSERT_EQ(sources.estimates.shape(), (Shape{2, 2, 100}));
  for (int64_t i = 0; i < 400; ++i) {
    const float expected = i >= 200 ? 0.5F : i % 100 < 70 ? 0.25F : 0.0F;
    ASSERT_EQ(sources.estimates.as<float>()[i], expected) << i;
  }
}

TEST_F(BssFilesTest, NamesTheFileAtFault) {
  const std::string b = (dir_ / "e/b.wav").string();
  write("e/b.wav", 100, 0.5F, 16000);
  expect_refusal({b + " has 16000 Hz", "a.flac has 8000"});
  write("e/b.wav", 100, 0.5F, 8000, 1);
  expect_refusal({b + " has 1 channels", "a.flac has 2"});
  test::put_file(b, "no audio");
  expect_refusal({b});
  write("r/b.wav", 99, 0.5F);
  expect_refusal({(dir_ / "r/b.wav").string() + " holds 99 samples", "one length"});
  write("r/a.wav", 0, 0);
  expect_refusal({"a.flac and ", "two files for one source"});
  fs::remove(dir_ / "r/a.flac");
  expect_refusal({(dir_ / "r/a.wav").string(), "holds no samples"});
}

TEST_F(BssFilesTest, NamesWhatIsMissing) {
  write("e/c.wav", 100, 0.5F);
  expect_refusal(
      {(dir_ / "r").string() + ": holds no c.wav", "to go with", (dir_ / "e/c.wav").string()});
  expect_refusal({(dir_ / "r").string() + ": holds no d.wav"}, {"a", "d"});
  EXPECT_THROW(read({"a", "b", "a"}), UsageError);
  write("r/mixture.wav", 100, 0.5F);
  fs::remove(dir_ / "e/c.wav");
  expect_refusal({(dir_ / "e").string() + ": holds no mixture.wav", "--sources"});
  fs::remove_all(dir_ / "e");
  expect_refusal({(dir_ / "e").string() + ": cannot be read as a folder"});
  fs::remove_all(dir_ / "r");
  fs::create_directory(dir_ / "r");
  fs::create_directory(dir_ / "e");
  expect_refusal({(dir_ / "r").string() + ": holds no .wav or .flac file"});
}

TEST_F(BssFilesTest, MoreThanStereoOrTooMany) {
  write("r/a.flac", 100, 0.5F, 8000, 3);
  expect_refusal({"a.flac: has 3 channels; mono and stereo"});
  write("r/a.flac", 100, 0.5F);
  for (int i = 0; i < 31; ++i) {
    write(fmt::format("r/s{}.wav", i), 10, 0);
    write(fmt::format("e/s{}.wav", i), 10, 0);
  }
  expect_refusal({"33 sources of 2 channels are more than 64 signals"});
}

}  // namespace
}  // namespace stemfabric
