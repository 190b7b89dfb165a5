// The train command as a user meets it: options, errors, exit statuses.
#include <gtest/gtest.h>

#include <cctype>

#include "runtime/device/device.h"
#include "tests/integration/stemfabric.h"
#include "tests/support/tiny_training.h"

namespace stemfabric::test {
namespace {

namespace fs = std::filesystem;

class TrainCommand : public testing::Test {
 protected:
  TrainCommand() { write_tiny_dataset(folder_ / "data", {.train = 8, .validation = 4}); }

  ProcessResult train(std::vector<std::string> args) const {
    for (const char* setting :
         {"model.dim=8", "model.depth=1", "model.heads=2", "model.dim_ff=8"}) {
      args.insert(args.end(), {"--set", setting});
    }
    args.insert(args.begin(), "train");
    return run_stemfabric(args);
  }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  TempDir folder_;
};

TEST_F(TrainCommand, OptionsStandForConfigurationKeys) {
  const auto result =
      train({"--datasetDir", path("data"), "--output-dir", path("run"), "--epochs", "2",
             "--batch-size", "3", "--learning-rate", "0.25", "--set", "training.lr=0.5"});
  ASSERT_EQ(result.status, 0) << result.err;
  const auto summary = read_json_file(folder_ / "run" / "training_summary.json");
  EXPECT_EQ(summary.at("epochs"), 2);
  EXPECT_EQ(summary.at("steps"), 6);                              // 8 samples, 3 at a time
  EXPECT_EQ(summary.at("config").at("training").at("lr"), 0.25);  // the option comes last
  EXPECT_EQ(summary.at("data").at("train_samples"), 8);
  for (const char* word : {"training: 8 samples", "validation: 4 samples", "parameters", "MiB",
                           "steps per epoch", "epoch 2: loss", "backward"}) {
    EXPECT_NE(result.err.find(word), std::string::npos) << word << " in\n" << result.err;
  }
}

TEST_F(TrainCommand, SaysWhichDeviceItTook) {
  const auto on_cpu = train({"--dataset-dir", path("data"), "--device", "cpu", "--dry-run"});
  EXPECT_EQ(on_cpu.status, 0) << on_cpu.err;
  EXPECT_NE(on_cpu.err.find("device cpu: "), std::string::npos) << on_cpu.err;
  const std::string reason = cuda_unavailable_reason();
  const auto on_gpu = train({"--dataset-dir", path("data"), "--device", "cuda", "--dry-run"});
  if (reason.empty()) {
    EXPECT_NE(on_gpu.err.find("device cuda:"), std::string::npos) << on_gpu.err;
    return;
  }
  EXPECT_EQ(on_gpu.status, 1) << on_gpu.err;
  EXPECT_NE(on_gpu.err.find("training.device: cuda cannot be used: " + reason), std::string::npos)
      << on_gpu.err;
}

TEST_F(TrainCommand, DryRunWritesNothing) {
  const auto result =
      train({"--dataset-dir", path("data"), "--output-dir", path("run"), "--dry-run"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_NE(result.err.find("dry run"), std::string::npos) << result.err;
  EXPECT_FALSE(fs::exists(folder_ / "run"));
}

// A run that diverges is told in words, wherever a number would stand.
TEST_F(TrainCommand, NumbersThatAreNotFiniteAreCalledThat) {
  const auto result =
      train({"--dataset-dir", path("data"), "--output-dir", path("run"), "--epochs", "3",
             "--batch-size", "4", "--learning-rate", "1e25", "--set", "training.patience=0"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_NE(result.err.find("loss not finite"), std::string::npos) << result.err;
  std::string texts = result.err;
  for (const char* file : {"run/metrics.jsonl", "run/epochs.jsonl", "run/report.html",
                           "run/training_summary.json", "run/training_history.json"}) {
    texts += read_text_file(folder_ / file);
  }
  for (const char* word : {"nan", "inf"}) {
    for (std::size_t at = texts.find(word); at != std::string::npos;
         at = texts.find(word, at + 1)) {
      const bool part_of_another = std::isalnum(static_cast<unsigned char>(texts[at - 1])) != 0 ||
                                   std::isalnum(static_cast<unsigned char>(texts[at + 3])) != 0;
      EXPECT_TRUE(part_of_another) << texts.substr(at - std::min<std::size_t>(at, 40), 80);
    }
  }
  EXPECT_TRUE(
      read_json_file(folder_ / "run/training_summary.json").at("validation_loss").is_null());
  // Nothing that no reader takes is written.
  const auto beyond =
      train({"--dataset-dir", path("data"), "--output-dir", path("beyond"), "--epochs", "3",
             "--batch-size", "4", "--learning-rate", "1e39", "--set", "training.patience=0"});
  EXPECT_EQ(beyond.status, 1);
  EXPECT_NE(beyond.err.find("weights are not finite"), std::string::npos) << beyond.err;
  EXPECT_FALSE(fs::exists(folder_ / "beyond/final_model.safetensors"));
}

TEST_F(TrainCommand, ErrorsNameTheFaultAndGiveTheDocumentedStatus) {
  struct Case {
    std::vector<std::string> args;
    int status;
    std::string names;
  };
  write_text_file(folder_ / "file", "x");
  fs::create_directories(folder_ / "broken" / "train");
  write_text_file(folder_ / "broken" / "train" / "shard-00000.safetensors", "garbage");
  for (const Case& c : std::vector<Case>{
           {{}, 2, "data.dataset_dir"},
           {{"--dataset-dir", path("nowhere")}, 3, path("nowhere")},
           {{"--dataset-dir", path("broken")}, 3, "shard-00000.safetensors"},
           {{"--dataset-dir", path("data"), "--epochs", "many"}, 2, "--epochs"},
           {{"--dataset-dir", path("data"), "--device", "gpu"}, 2, "training.device"},
           {{"--dataset-dir", path("data"), "--set", "training.precision=fp16"},
            2,
            "training.precision"},
           {{"--dataset-dir", path("data"), "--set", "training.init_from=" + path("file")},
            3,
            path("file")},
           {{"--dataset-dir", path("data"), "--output-dir", path("file") + "/run"},
            1,
            path("file")},
           {{"--dataset-dir", path("data"), "--output-dir", path("run"), "--resume",
             path("nowhere")},
            3,
            path("nowhere")}}) {
    const auto result = train(c.args);
    EXPECT_EQ(result.status, c.status) << result.err;
    EXPECT_NE(result.err.find(c.names), std::string::npos) << result.err;
    EXPECT_EQ(result.out, "");
  }
}

}  // namespace
}  // namespace stemfabric::test
