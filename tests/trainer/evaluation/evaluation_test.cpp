#include "trainer/evaluation/evaluation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <random>

#include "runtime/core/check.h"
#include "runtime/io/file.h"
#include "runtime/io/safetensors.h"
#include "tests/oracles/separation_oracle.h"
#include "tests/support/paths.h"
#include "trainer/evaluation/evaluate.h"
#include "trainer/model/trained_model.h"
#include "trainer/model/weights_file.h"

namespace stemfabric {
namespace {

using nlohmann::json;
using test::TempDir;
using testing::HasSubstr;

constexpr int64_t kTokens = 5;
constexpr int64_t kOut = 4;
constexpr int64_t kRecordElements = kStemCount * kTokens * kOut;

// Records 0 … n-1: everything present, but
//   record 1 has no drums, record 2 silent bass, record 3 no bass at token 0,
//   record 4 only vocals, record 5 nothing; token 4 of record 0 is padding.
struct Example {
  TempDir dir;
  int64_t n = 6;
  Tensor inputs{Shape{n, kTokens, 3}, DType::kF32};
  Tensor input_mask{Shape{n, kTokens}, DType::kU8};
  Tensor targets{Shape{n, kStemCount, kTokens, kOut}, DType::kF32};
  Tensor target_mask{Shape{n, kStemCount, kTokens, kOut}, DType::kU8};
  Tensor weight{Shape{n, kStemCount}, DType::kF32};

  Example() {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    for (Tensor* tensor : {&inputs, &targets, &weight}) {
      std::generate_n(tensor->as<float>(), tensor->elements(), [&] { return normal(random); });
    }
    std::fill_n(weight.as<float>(), weight.elements(), 1.0F);
    std::fill_n(input_mask.as<uint8_t>(), input_mask.elements(), 1);
    std::fill_n(target_mask.as<uint8_t>(), target_mask.elements(), 1);
    clear(1, 1, 0, kTokens);
    std::fill_n(targets.as<float>() + 2 * kRecordElements + 2 * kTokens * kOut, kTokens * kOut,
                0.0F);
    clear(3, 2, 0, 1);
    for (int stem = 1; stem < kStemCount; ++stem) {
      clear(4, stem, 0, kTokens);
    }
    for (int stem = 0; stem < kStemCount; ++stem) {
      clear(5, stem, 0, kTokens);
    }
    input_mask.as<uint8_t>()[4] = 0;
    write("data/train");
    write("data/validation");
  }
  void clear(int64_t record, int64_t stem, int64_t token, int64_t tokens) {
    std::fill_n(
        target_mask.as<uint8_t>() + record * kRecordElements + (stem * kTokens + token) * kOut,
        tokens * kOut, 0);
  }
  void write(const std::string& folder) const {
    std::filesystem::create_directories(dir / folder);
    write_safetensors(dir / folder / "shard-00000.safetensors",
                      {{"inputs", inputs.view()},
                       {"input_mask", input_mask.view()},
                       {"targets", targets.view()},
                       {"target_mask", target_mask.view()},
                       {"stem_weight", weight.view()}},
                      {});
  }
  ModelConfig write_model(const std::string& name) const {
    ModelConfig config;
    config.input_dim = 3;
    config.dim = 8;
    config.heads = 2;
    config.depth = 1;
    config.dim_ff = 8;
    config.output_dim = kOut;
    config.max_sequence_length = kTokens;
    const ParameterTable table(config);
    std::vector<float> block(static_cast<std::size_t>(table.block_elements()));
    table.initialize(block.data(), 5);
    write_weights(dir / name, config, table, block.data(), {}, {});
    return config;
  }
  // One record's stem over the given tokens.
  std::vector<double> source(int64_t record, int64_t stem, int64_t first, int64_t last) const {
    const float* data = targets.as<float>() + record * kRecordElements + stem * kTokens * kOut;
    return {data + first * kOut, data + last * kOut};
  }
};

std::vector<RecordEvaluation> baseline_of(const Example& example) {
  return evaluate_dataset(nullptr, Dataset(example.dir / "data/validation"), 4);
}

void expect_scores(const SeparationScores& got, const test::SeparationOracle& want) {
  const auto limited = [](double x) { return std::clamp(x, -kScoreLimitDb, kScoreLimitDb); };
  EXPECT_NEAR(got.sdr, limited(want.sdr), 1e-7);
  EXPECT_NEAR(got.sir, limited(want.sir), 1e-7);
  EXPECT_NEAR(got.sar, limited(want.sar), 1e-7);
}

TEST(Evaluation, AbsentAndSilentStemsAreNotEvaluated) {
  const Example example;
  const auto records = baseline_of(example);
  ASSERT_EQ(records.size(), 6U);
  EXPECT_EQ(records[0].elements, (kTokens - 1) * kOut);  // one token is padding
  EXPECT_EQ(records[0].independent_stems, 6);
  EXPECT_EQ(records[1].stems[1].state, StemState::kAbsent);
  EXPECT_EQ(records[1].independent_stems, 5);
  EXPECT_EQ(records[1].stems[2].state, StemState::kEvaluated);
  EXPECT_EQ(records[2].stems[2].state, StemState::kSilent);
  EXPECT_EQ(records[2].elements, kTokens * kOut);
  EXPECT_EQ(records[3].elements, (kTokens - 1) * kOut);
  EXPECT_EQ(records[3].left_out, kOut);
  EXPECT_TRUE(std::isnan(records[4].stems[0].mixture.sir));
  EXPECT_EQ(records[4].stems[0].mixture.sdr, kScoreLimitDb);  // one stem is its own mixture
  EXPECT_EQ(records[5].elements, 0);
  EXPECT_EQ(records[5].stems[0].state, StemState::kAbsent);
}

TEST(Evaluation, BaselineIsTheSumOfTheTrueStems) {
  const Example example;
  const auto records = baseline_of(example);
  std::vector<std::vector<double>> sources;
  std::vector<double> mixture((kTokens - 1) * kOut, 0.0);
  for (int stem = 0; stem < kStemCount; ++stem) {
    sources.push_back(example.source(3, stem, 1, kTokens));  // token 0 lacks the bass
    std::ranges::transform(mixture, sources.back(), mixture.begin(), std::plus<>());
  }
  for (std::size_t stem = 0; stem < kStemCount; ++stem) {
    const auto want = test::separation_oracle(sources, mixture, stem);
    EXPECT_NEAR(records[3].stems[stem].mixture.sdr, want.sdr, 1e-7);
    EXPECT_NEAR(records[3].stems[stem].mixture.sir, want.sir, 1e-7);
    EXPECT_EQ(records[3].stems[stem].mixture.sar, kScoreLimitDb);
  }
}

TEST(Evaluation, ModelScoresAgreeWithTheOracle) {
  const Example example;
  example.write_model("w.safetensors");
  const ExecutionContext ctx;
  const TrainedModel trained =
      open_trained_model(ctx, example.dir / "w.safetensors", example.n, kTokens);
  // Batches of four: the second is not full.
  const auto records =
      evaluate_dataset(trained.model.get(), Dataset(example.dir / "data/validation"), 4);
  const ConstTensorView outputs =
      trained.model->forward(example.inputs.view(), example.input_mask.view(), false, {});
  std::vector<std::vector<double>> sources;
  for (const int stem : {0, 2, 3, 4, 5}) {
    sources.push_back(example.source(1, stem, 0, kTokens));
  }
  std::vector<double> estimate;
  for (int64_t t = 0; t < kTokens; ++t) {
    for (int64_t o = 0; o < kOut; ++o) {
      estimate.push_back(outputs.as<float>()[3 * outputs.stride(0) + 1 * outputs.stride(1) +
                                             t * outputs.stride(2) + o * outputs.stride(3)]);
    }
  }
  const auto want = test::separation_oracle(sources, estimate, 2);  // harmonic
  const SeparationScores& got = records[1].stems[3].model;
  EXPECT_NEAR(got.sdr, want.sdr, 1e-3);  // the forward pass is float32
  EXPECT_NEAR(got.sir, want.sir, 1e-3);
  EXPECT_NEAR(got.sar, want.sar, 1e-3);
}

TEST(Evaluation, GivenEstimatesAgreeWithTheOracle) {
  const Example example;
  // Estimates in another memory order than the targets, as a model may give them.
  Tensor outputs(Shape{kTokens, kStemCount, kOut}, DType::kF32);
  for (int64_t i = 0; i < outputs.elements(); ++i) {
    outputs.as<float>()[i] = std::cos(static_cast<float>(i * i));
  }
  const ConstTensorView view(outputs.as<float>(), DType::kF32, Shape{kStemCount, kTokens, kOut},
                             {kOut, kStemCount * kOut, 1});
  const Shape shape{kStemCount, kTokens, kOut};
  const RecordEvaluation record =
      evaluate_record("r", example.targets.view().slice(0, 0, 1).reshape(shape),
                      example.target_mask.view().slice(0, 0, 1).reshape(shape),
                      example.input_mask.view().slice(0, 0, 1).reshape({kTokens}), view);
  std::vector<std::vector<double>> sources;
  for (int stem = 0; stem < kStemCount; ++stem) {
    sources.push_back(example.source(0, stem, 0, kTokens - 1));
  }
  for (std::size_t stem = 0; stem < kStemCount; ++stem) {
    std::vector<double> estimate;
    for (std::size_t t = 0; t < kTokens - 1; ++t) {
      for (std::size_t o = 0; o < kOut; ++o) {
        estimate.push_back(outputs.as<float>()[(t * kStemCount + stem) * kOut + o]);
      }
    }
    expect_scores(record.stems[stem].model, test::separation_oracle(sources, estimate, stem));
  }
  outputs.as<float>()[5] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW(evaluate_record("r", example.targets.view().slice(0, 0, 1).reshape(shape),
                               example.target_mask.view().slice(0, 0, 1).reshape(shape),
                               example.input_mask.view().slice(0, 0, 1).reshape({kTokens}), view),
               NumericError);
}

TEST(Evaluation, Distributions) {
  const Distribution d = distribution_of({4, 1, std::nan(""), 3, 2, 10});
  EXPECT_EQ(d.count, 5);
  EXPECT_EQ(d.mean, 4);
  EXPECT_EQ(d.min, 1);
  EXPECT_EQ(d.q25, 2);
  EXPECT_EQ(d.median, 3);
  EXPECT_EQ(d.q75, 4);
  EXPECT_EQ(d.max, 10);
  const Distribution even = distribution_of({1, 2, 3, 4});
  EXPECT_EQ(even.q25, 1.75);
  EXPECT_EQ(even.median, 2.5);
  EXPECT_EQ(even.q75, 3.25);
  EXPECT_EQ(distribution_of({std::nan("")}).count, 0);
}

TEST(Evaluation, Summary) {
  const Example example;
  const EvaluationSummary summary = summarise(baseline_of(example));
  EXPECT_EQ(summary.stems[0].evaluated, 5);
  EXPECT_EQ(summary.stems[0].absent, 1);
  EXPECT_EQ(summary.stems[2].evaluated, 3);
  EXPECT_EQ(summary.stems[2].silent, 1);
  EXPECT_EQ(summary.stems[0].mixture[0].count, 5);
  EXPECT_EQ(summary.stems[0].mixture[1].count, 4);  // SIR of a lone stem is undefined
  EXPECT_EQ(summary.mixture[0].count, 6 + 5 + 5 + 6 + 1);
}

// ---- reports

TEST(Evaluation, JsonReport) {
  const Example example;
  const ModelConfig config = example.write_model("w.safetensors");
  const EvaluateResult result =
      evaluate(ExecutionContext(), {.dataset_dir = example.dir / "data",
                                    .model = example.dir / "w.safetensors",
                                    .output_dir = example.dir / "e",
                                    .batch_size = 4});
  const json report = json::parse(read_text_file(result.json));
  EXPECT_EQ(report["aggregateMetrics"]["sdr"], result.summary.model[0].median);
  EXPECT_EQ(report["stemMetrics"]["bass"]["silent"], 1);
  EXPECT_EQ(report["stemMetrics"]["bass"]["targets"]["sir"]["target"], 15);
  EXPECT_EQ(report["stemMetrics"]["bass"]["targets"]["sir"]["met"], false);
  EXPECT_EQ(report["baselines"]["mixture"]["stemMetrics"]["sub"]["sdr"],
            result.summary.stems[5].mixture[0].median);
  ASSERT_EQ(report["individualEvaluations"].size(), 6U);
  EXPECT_EQ(report["individualEvaluations"][1]["stems"]["drums"]["notEvaluated"], "absent");
  EXPECT_TRUE(report["individualEvaluations"][4]["stems"]["vocals"]["sir"].is_null());
  EXPECT_EQ(report["model"]["sha256"], sha256_file(example.dir / "w.safetensors"));
  // Weights without a run: all that is known is said, and that it is not all.
  EXPECT_EQ(report["config"]["model"]["dim"], config.dim);
  EXPECT_EQ(report["config"].size(), 1U);
  EXPECT_THAT(report["configSource"].get<std::string>(), HasSubstr("the model section only"));
  EXPECT_TRUE(report["seed"].is_null());
  EXPECT_TRUE(report["training"]["dataHash"].is_null());
  EXPECT_EQ(report["data"]["hash"], open_dataset(example.dir / "data").hash);
  EXPECT_EQ(report["data"]["splitHash"], Dataset(example.dir / "data/validation").hash());
  EXPECT_TRUE(report["definitions"].contains("sdr"));
  EXPECT_EQ(report["device"], "cpu");
  EXPECT_THAT(report["timestamp"].get<std::string>(),
              testing::MatchesRegex("....-..-..T..:..:..Z"));
}

TEST(Evaluation, HtmlReportStandsAlone) {
  const Example example;
  example.write_model("final_model.safetensors");
  write_text_file(example.dir / "metrics.jsonl",
                  "{\"kind\":\"step\",\"step\":1,\"loss\":0.5,\"lr\":0.1}\nnot json\n[1]\n"
                  "{\"kind\":\"step\",\"step\":2,\"loss\":null,\"lr\":0.2}\n"
                  "{\"kind\":\"epoch\",\"step\":2,\"epoch\":1,\"train_loss\":0.4}\n{\"kind\":");
  write_text_file(example.dir / "training_history.json", "{\"epoch\": [1, 2], \"loss\": [3]}");
  const EvaluateResult result = evaluate(ExecutionContext(), {.dataset_dir = example.dir / "data",
                                                              .model = example.dir.path(),
                                                              .output_dir = example.dir / "<b>"});
  const std::string html = read_text_file(result.html);
  for (const char* outside : {"http:", "https:", "<script", "src=", "href=", "@import", "url("}) {
    EXPECT_THAT(html, testing::Not(HasSubstr(outside)));
  }
  EXPECT_THAT(html, HasSubstr("Loss per epoch"));
  EXPECT_THAT(html, HasSubstr("SIR per stem"));
  EXPECT_THAT(html, HasSubstr("✗ not met"));
  EXPECT_THAT(html, HasSubstr("bass in 3 records (2 absent, 1 silent)"));
  EXPECT_THAT(html, testing::Not(HasSubstr("nan")));
}

TEST(Evaluation, SampleTargetsAreCalledUnpredictable) {
  const Example example;
  write_text_file(example.dir / "data/manifest.json", R"({"targets": {"kind": "samples"}})");
  const EvaluateResult result = evaluate(
      ExecutionContext(), {.dataset_dir = example.dir / "data", .output_dir = example.dir / "e"});
  const json report = json::parse(read_text_file(result.json));
  EXPECT_THAT(report["note"].get<std::string>(), HasSubstr("decimated waveform samples"));
  EXPECT_TRUE(report["model"].is_null());
  EXPECT_TRUE(report["aggregateMetrics"].is_null());
  EXPECT_THAT(read_text_file(result.html), HasSubstr("decimated waveform samples"));
  EXPECT_THAT(read_text_file(result.html), HasSubstr("No model was given"));
}

TEST(Evaluation, WrongRequestsAreRefused) {
  const Example example;
  ModelConfig config;
  config.input_dim = 4;
  config.dim = 8;
  config.heads = 2;
  config.depth = 0;
  config.output_dim = kOut;
  config.max_sequence_length = kTokens;
  const ParameterTable table(config);
  std::vector<float> block(static_cast<std::size_t>(table.block_elements()));
  write_weights(example.dir / "w.safetensors", config, table, block.data(), {}, {});
  const auto refusal = [&](EvaluateRequest request) -> std::string {
    request.output_dir = example.dir / "e";
    try {
      evaluate(ExecutionContext(), request);
    } catch (const Error& error) {
      EXPECT_FALSE(std::filesystem::exists(example.dir / "e"));
      return error.what();
    }
    return "accepted";
  };
  EXPECT_THAT(
      refusal({.dataset_dir = example.dir / "data", .model = example.dir / "w.safetensors"}),
      HasSubstr("4 features per token"));
  EXPECT_THAT(refusal({.dataset_dir = example.dir / "data/train"}),
              HasSubstr("no samples in its validation split"));
  EXPECT_THAT(refusal({.dataset_dir = example.dir / "data", .split = "test"}),
              HasSubstr("--split test"));
  EXPECT_THAT(refusal({.dataset_dir = example.dir / "nowhere"}), HasSubstr("nowhere"));
}

}  // namespace
}  // namespace stemfabric
