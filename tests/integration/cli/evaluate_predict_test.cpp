// evaluate and predict as a user runs them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "runtime/io/file.h"
#include "runtime/io/npy.h"
#include "runtime/io/safetensors.h"
#include "tests/integration/stemfabric.h"
#include "tests/support/paths.h"
#include "trainer/model/weights_file.h"
#include "trainer/stems.h"

namespace stemfabric {
namespace {

using test::run_stemfabric;
using test::TempDir;
using testing::HasSubstr;
using testing::Not;

constexpr int64_t kRecords = 3;
constexpr int64_t kTokens = 4;

struct Example {
  TempDir dir;
  Example() {
    ModelConfig config;
    config.input_dim = 2;
    config.dim = 8;
    config.heads = 2;
    config.depth = 1;
    config.dim_ff = 8;
    config.output_dim = 5;
    config.max_sequence_length = kTokens;
    const ParameterTable table(config);
    std::vector<float> block(static_cast<std::size_t>(table.block_elements()));
    table.initialize(block.data(), 1);
    write_weights(dir / "w.safetensors", config, table, block.data(), {}, {});
    Tensor inputs(Shape{kRecords, kTokens, 2}, DType::kF32);
    Tensor targets(Shape{kRecords, kStemCount, kTokens, 5}, DType::kF32);
    for (Tensor* tensor : {&inputs, &targets}) {
      for (int64_t i = 0; i < tensor->elements(); ++i) {
        tensor->as<float>()[i] = static_cast<float>((i * 37 + i * i) % 23) - 11.0F;
      }
    }
    Tensor present(Shape{kRecords, kTokens}, DType::kU8);
    Tensor supervised(targets.shape(), DType::kU8);
    Tensor weight(Shape{kRecords, kStemCount}, DType::kF32);
    std::fill_n(present.as<uint8_t>(), present.elements(), 1);
    std::fill_n(supervised.as<uint8_t>(), supervised.elements(), 1);
    std::fill_n(weight.as<float>(), weight.elements(), 1.0F);
    write_npy(dir / "x.npy", inputs.view());
    write_npy(dir / "m.npy", present.view());
    for (const char* split : {"train", "validation"}) {
      make_directories(dir / "data" / split);
      write_safetensors(dir / "data" / split / "shard-00000.safetensors",
                        {{"inputs", inputs.view()},
                         {"input_mask", present.view()},
                         {"targets", targets.view()},
                         {"target_mask", supervised.view()},
                         {"stem_weight", weight.view()}},
                        {});
    }
  }
};

TEST(Predict, WritesOneFilePerStem) {
  const Example example;
  const auto result = run_stemfabric({"predict", "--model", "w.safetensors", "--input", "x.npy",
                                      "--mask", "m.npy", "--output-dir", "y"},
                                     example.dir.path());
  EXPECT_EQ(result.status, 0) << result.err;
  for (const std::string_view stem : kStemNames) {
    EXPECT_EQ(read_npy(example.dir / ("y/" + std::string(stem) + ".npy")).shape(),
              Shape({kRecords, kTokens, 5}));
  }
}

TEST(Predict, RemovesWhatAKilledOneLeft) {
  const Example example;
  make_directories(example.dir / "y");
  write_text_file(example.dir / "y/vocals.npy.partial-4194305-0", "half");
  const auto result = run_stemfabric(
      {"predict", "--model", "w.safetensors", "--input", "x.npy", "--output-dir", "y"},
      example.dir.path());
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(example.dir / "y"),
                          std::filesystem::directory_iterator()),
            kStemCount);
}

TEST(Predict, BadInputIsStatusThree) {
  const Example example;
  const auto result = run_stemfabric(
      {"predict", "--model", "w.safetensors", "--input", "m.npy", "--output-dir", "y"},
      example.dir.path());
  EXPECT_EQ(result.status, 3);
  EXPECT_THAT(result.err, HasSubstr("m.npy: expected an array [samples, tokens, 2]"));
}

TEST(Predict, NoSpaceForTheOutputIsASentence) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the run-time library of ThreadSanitizer writes a file of its own";
#endif
  const Example example;
  const auto result = test::run_process(
      {"/bin/sh", "-c", "ulimit -f 0; exec \"$0\" \"$@\" 2>/dev/null", SF_EXECUTABLE, "predict",
       "--model", "w.safetensors", "--input", "x.npy", "--output-dir", "y"},
      example.dir.path());
  EXPECT_EQ(result.status, 1);  // not killed by SIGXFSZ
  EXPECT_TRUE(std::filesystem::is_empty(example.dir / "y"));
}

TEST(Evaluate, WritesBothReports) {
  const Example example;
  const auto result = run_stemfabric(
      {"evaluate", "--datasetDir", "data", "--model", "w.safetensors", "--outputDir", "e"},
      example.dir.path());
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("harmonic"));
  const auto report =
      nlohmann::json::parse(read_text_file(example.dir / "e/evaluation_report.json"));
  EXPECT_EQ(report["individualEvaluations"].size(), 3U);
  EXPECT_TRUE(report["aggregateMetrics"]["overall"].is_number());
  EXPECT_THAT(read_text_file(example.dir / "e/report.html"), HasSubstr("</html>"));
}

TEST(Evaluate, SaysWhenTheTargetsCannotBePredicted) {
  const Example example;
  const std::vector<std::string> args = {"evaluate",      "--dataset-dir", "data", "--model",
                                         "w.safetensors", "--output-dir",  "e"};
  EXPECT_THAT(run_stemfabric(args, example.dir.path()).out, Not(HasSubstr("waveform samples")));
  write_text_file(example.dir / "data/manifest.json", R"({"targets": {"kind": "samples"}})");
  EXPECT_THAT(run_stemfabric(args, example.dir.path()).out,
              HasSubstr("The targets of this data set are decimated waveform samples"));
}

TEST(Evaluate, MissingModelIsStatusThree) {
  const Example example;
  const auto result =
      run_stemfabric({"evaluate", "--dataset-dir", "data", "--model", "none", "--output-dir", "e"},
                     example.dir.path());
  EXPECT_EQ(result.status, 3);
  EXPECT_THAT(result.err, HasSubstr("there is no model none"));
}

}  // namespace
}  // namespace stemfabric
