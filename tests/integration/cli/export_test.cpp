// export as a user runs it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/io/file.h"
#include "tests/integration/stemfabric.h"
#include "tests/support/paths.h"
#include "trainer/model/weights_file.h"

namespace stemfabric {
namespace {

using test::run_stemfabric;
using test::TempDir;
using testing::HasSubstr;

struct Example {
  TempDir dir;
  explicit Example(const char* positions = "learned") {
    ModelConfig config;
    config.input_dim = 3;
    config.dim = 8;
    config.heads = 2;
    config.depth = 1;
    config.dim_ff = 8;
    config.output_dim = 4;
    config.max_sequence_length = 6;
    config.positions = positions;
    const ParameterTable table(config);
    std::vector<float> block(static_cast<std::size_t>(table.block_elements()));
    table.initialize(block.data(), 1);
    write_weights(dir / "w.safetensors", config, table, block.data(), {}, {});
  }
  test::ProcessResult run(std::vector<std::string> more) const {
    more.insert(more.begin(), {"export", "--model", "w.safetensors", "--output-dir", "x"});
    return run_stemfabric(more, dir.path());
  }
};

TEST(Export, WritesAllFormatsAndSaysHowWellTheyAgree) {
  const Example example;
  const auto result = example.run({"--licence", "MIT"});
  EXPECT_EQ(result.status, 0) << result.err;
  for (const char* name : {"model.h5", "model.onnx", "model.safetensors", "tfjs/model.json",
                           "tfjs/group1-shard1of1.bin", "model_card.md", "model_card.json"}) {
    EXPECT_TRUE(std::filesystem::exists(example.dir / "x" / name)) << name;
  }
  for (const char* word : {"tfjs/model.json", "keras-h5", "onnx", "safetensors", "compared"}) {
    EXPECT_THAT(result.out, HasSubstr(word));
  }
  EXPECT_THAT(read_text_file(example.dir / "x/model_card.md"), HasSubstr("| licence | MIT |"));
  // What it wrote is a model again.
  const auto again = run_stemfabric(
      {"export", "--model", "x/model.safetensors", "--format", "onnx", "--output-dir", "y"},
      example.dir.path());
  EXPECT_EQ(again.status, 0) << again.err;
  EXPECT_EQ(sha256_file(example.dir / "x/model.onnx"), sha256_file(example.dir / "y/model.onnx"));
}

TEST(Export, PackedWeightsSayWhatTheyCost) {
  const Example example("rotary");
  const auto result = example.run({"--format", "tfjs", "--web-weights", "fp16"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("root mean square"));
  EXPECT_THAT(read_text_file(example.dir / "x/tfjs/model.json"), HasSubstr("float16"));
}

TEST(Export, WrongRequestsAreOneSentence) {
  const Example example("rotary");
  const auto format = example.run({"--format", "onnx,pickle"});
  EXPECT_EQ(format.status, 2);
  EXPECT_THAT(format.err, HasSubstr("'pickle' is none of keras-h5, tfjs, onnx, safetensors"));
  const auto rotary = example.run({});
  EXPECT_EQ(rotary.status, 2);
  EXPECT_THAT(rotary.err, HasSubstr("leave it out: --format tfjs,onnx,safetensors"));
  const auto missing = run_stemfabric({"export", "--model", "no.safetensors", "--output-dir", "x"},
                                      example.dir.path());
  EXPECT_EQ(missing.status, 3);
  EXPECT_THAT(missing.err, HasSubstr("there is no model no.safetensors"));
  const auto packed = example.run({"--format", "onnx", "--web-weights", "int8"});
  EXPECT_EQ(packed.status, 2);
  EXPECT_THAT(packed.err, HasSubstr("--web-weights int8 is for tfjs"));
  const auto report = example.run({"--format", "onnx", "--evaluation", "w.safetensors"});
  EXPECT_EQ(report.status, 3);
  EXPECT_FALSE(std::filesystem::exists(example.dir / "x"));
}

}  // namespace
}  // namespace stemfabric
