// The configuration in an evaluation report: of the run that made the weights, or said to be less.
#include "trainer/training/run_record.h"

#include <gtest/gtest.h>

#include "runtime/core/log.h"
#include "tests/support/tiny_training.h"
#include "trainer/evaluation/evaluate.h"
#include "trainer/training/training.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;
using test::read_json_file;

class RunRecordTest : public testing::Test {
 protected:
  RunRecordTest() {
    set_log_level(LogLevel::kError);
    test::write_tiny_dataset(data());
    run_training(test::tiny_config(data(), {"training.seed=17", "training.lr=0.005"}),
                 {.output_dir = run(), .resume = "auto", .stop = {}});
  }
  ~RunRecordTest() override { set_log_level(LogLevel::kInfo); }

  fs::path data() const { return folder_ / "data"; }
  fs::path run() const { return folder_ / "run"; }
  fs::path summary() const { return run() / "training_summary.json"; }
  nlohmann::json report(const fs::path& model) const {
    const auto result =
        evaluate(ExecutionContext(),
                 {.dataset_dir = data(), .model = model, .output_dir = folder_ / "evaluation"});
    html_ = read_text_file(result.html);
    return read_json_file(result.json);
  }

  test::TempDir folder_;
  mutable std::string html_;
};

TEST_F(RunRecordTest, ReportHasTheConfigurationOfTheRun) {
  const auto expected = read_json_file(summary()).at("config");
  ASSERT_EQ(expected.at("training").at("lr"), 0.005);
  for (const fs::path& model : {run(), run() / "checkpoints/best_model.safetensors",
                                run() / "checkpoints/step-000012/model.safetensors"}) {
    const auto json = report(model);
    EXPECT_EQ(json.at("config"), expected) << model;
    EXPECT_EQ(json.at("seed"), 17);
    EXPECT_EQ(json.at("training").at("dataHash"), json.at("data").at("hash"));
    EXPECT_NE(json.at("data").at("splitHash"), json.at("data").at("hash"));
    EXPECT_TRUE(json.at("training").at("codeVersion").is_string());
    EXPECT_TRUE(fs::exists(json.at("configSource").get<std::string>()));
    EXPECT_NE(html_.find("\n  lr: 0.005\n"), std::string::npos);
    EXPECT_NE(html_.find("this data set"), std::string::npos);
  }
}

TEST_F(RunRecordTest, WeightsElsewhereTellTheModelOnly) {
  fs::copy(run() / "final_model.safetensors", folder_ / "final_model.safetensors");
  const auto json = report(folder_ / "final_model.safetensors");
  EXPECT_EQ(json.at("config").size(), 1U);
  EXPECT_EQ(json.at("config").at("model").at("dim"), 16);
  EXPECT_EQ(json.at("seed"), 17);  // in the weights themselves
  EXPECT_EQ(json.at("training").at("dataHash"), json.at("data").at("hash"));
  EXPECT_NE(json.at("configSource").get<std::string>().find("model section only"),
            std::string::npos);
  EXPECT_NE(html_.find("model section only"), std::string::npos);
}

TEST_F(RunRecordTest, ADamagedOrForeignRecordIsNotBelieved) {
  const std::string whole = read_text_file(summary());
  std::string changed = whole;
  changed.replace(changed.find("0.005"), 5, "0.006");
  write_text_file(summary(), changed);
  EXPECT_EQ(report(run()).at("config").size(), 1U);
  write_text_file(summary(), whole);
  EXPECT_GT(report(run()).at("config").size(), 1U);
  fs::copy(run() / "checkpoints/step-000006/model.safetensors", run() / "final_model.safetensors",
           fs::copy_options::overwrite_existing);
  EXPECT_EQ(report(run()).at("config").size(), 1U);
}

}  // namespace
}  // namespace stemfabric
