#include "trainer/training/training_setup.h"

#include <gtest/gtest.h>

#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "tests/support/tiny_training.h"
#include "trainer/model/weights_file.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;
using test::TempDir;
using test::tiny_config;

class TrainingSetupTest : public testing::Test {
 protected:
  TrainingSetupTest() {
    set_log_level(LogLevel::kError);
    test::write_tiny_dataset(folder_ / "data");
  }
  ~TrainingSetupTest() override { set_log_level(LogLevel::kInfo); }

  // Initial weights of this model, with or without statistics in them.
  fs::path weights(const ModelConfig& model, bool with_statistics) {
    const ParameterTable table(model);
    std::vector<float> block(static_cast<std::size_t>(table.block_elements()));
    table.initialize(block.data(), 5);
    const auto n = static_cast<std::size_t>(model.input_dim);
    const fs::path path = folder_ / "init.safetensors";
    write_weights(path, model, table, block.data(),
                  with_statistics ? InputStatistics{.mean = std::vector<float>(n, 2.0F),
                                                    .scale = std::vector<float>(n, 4.0F)}
                                  : InputStatistics{.mean = std::vector<float>(n, 0.0F),
                                                    .scale = std::vector<float>(n, 1.0F)},
                  {});
    return path;
  }
  static ModelConfig other_model() {
    ModelConfig model;
    model.input_dim = 5;
    model.output_dim = 3;
    model.max_sequence_length = 10;
    model.dim = 12;
    model.depth = 2;
    model.heads = 3;
    model.dim_ff = 20;
    model.attention.activation = "softmax";
    return model;
  }
  LoadedConfig plain_config(const std::vector<std::string>& settings) {
    std::vector<ConfigOverride> overrides = {
        parse_override("data.dataset_dir=" + (folder_ / "data").string())};
    for (const auto& setting : settings) {
      overrides.push_back(parse_override(setting));
    }
    return load_config({}, overrides);
  }
  std::string config_error(const LoadedConfig& config) {
    try {
      prepare_training(config);
    } catch (const ConfigError& error) {
      return error.what();
    }
    ADD_FAILURE() << "no ConfigError";
    return {};
  }

  TempDir folder_;
};

TEST_F(TrainingSetupTest, SizesComeFromTheDataSet) {
  const TrainingSetup setup = prepare_training(tiny_config(folder_ / "data"));
  EXPECT_EQ(setup.model.input_dim, 5);
  EXPECT_EQ(setup.model.output_dim, 3);
  EXPECT_EQ(setup.model.max_sequence_length, 6);
  EXPECT_EQ(setup.model.dim, 16);
  EXPECT_EQ(setup.statistics.mean, std::vector<float>(5, 0.0F));
  EXPECT_EQ(setup.statistics.scale, std::vector<float>(5, 1.0F));
}

TEST_F(TrainingSetupTest, WhatIsNotSetComesFromTheWeights) {
  const fs::path init = weights(other_model(), true);
  const TrainingSetup setup = prepare_training(
      plain_config({"training.init_from=" + init.string(), "model.ff_dropout=0.3"}));
  EXPECT_EQ(setup.model.dim, 12);
  EXPECT_EQ(setup.model.heads, 3);
  EXPECT_EQ(setup.model.max_sequence_length, 10);
  EXPECT_EQ(setup.model.attention.activation, "softmax");
  EXPECT_EQ(setup.model.ff_dropout, 0.3);
  EXPECT_EQ(setup.statistics.mean, std::vector<float>(5, 2.0F));
  EXPECT_EQ(setup.statistics.scale, std::vector<float>(5, 4.0F));
  const ParameterTable table(setup.model);
  std::vector<float> expected(static_cast<std::size_t>(table.block_elements()));
  auto block = expected;
  table.initialize(expected.data(), 5);
  initialise_weights(setup, table, 99, block.data());
  EXPECT_EQ(block, expected);
}

TEST_F(TrainingSetupTest, ConflictsNameBothSides) {
  const fs::path init = weights(other_model(), false);
  const std::string from = "training.init_from=" + init.string();
  for (const auto& [setting, key] : std::vector<std::pair<std::string, std::string>>{
           {"model.dim=24", "model.dim is 24"},
           {"model.heads=4", "model.heads is 4"},
           {"model.depth=1", "model.depth is 1"},
           {"model.max_sequence_length=11", "model.max_sequence_length is 11"},
           {"model.norm_placement=pre", "model.norm_placement is pre"}}) {
    const std::string text = config_error(plain_config({from, setting}));
    EXPECT_NE(text.find(key), std::string::npos) << text;
    EXPECT_NE(text.find(init.string()), std::string::npos) << text;
  }
  std::string text = config_error(plain_config({"model.input_dim=7"}));
  EXPECT_NE(text.find("model.input_dim is 7"), std::string::npos) << text;
  EXPECT_NE(text.find("has 5 features"), std::string::npos) << text;
  text = config_error(plain_config({"model.max_sequence_length=4"}));
  EXPECT_NE(text.find("have 6 tokens"), std::string::npos) << text;
  ModelConfig narrow = other_model();
  narrow.output_dim = 4;
  weights(narrow, false);
  text = config_error(plain_config({from}));
  EXPECT_NE(text.find("model.output_dim is 4"), std::string::npos) << text;
  EXPECT_NE(text.find(init.string()), std::string::npos) << text;
}

TEST_F(TrainingSetupTest, NeedsADataset) {
  const std::string text = config_error(load_config({}, {}));
  EXPECT_NE(text.find("data.dataset_dir"), std::string::npos) << text;
}

}  // namespace
}  // namespace stemfabric
