// Real processes of the real executable: killed, stopped by signals, short of disk space.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "tests/integration/stemfabric.h"
#include "tests/support/tiny_training.h"
#include "trainer/training/checkpoint.h"

namespace stemfabric::test {
namespace {

namespace fs = std::filesystem;

class Interruption : public testing::Test {
 protected:
  Interruption() { write_tiny_dataset(folder_ / "data", {.train = 24, .validation = 6}); }

  // 6 steps per epoch; a checkpoint every second step and at the end of each epoch.
  std::vector<std::string> arguments(const std::string& run, int epochs,
                                     const std::vector<std::string>& more = {}) const {
    std::vector<std::string> args = {"train", "--quiet", "--output-dir", (folder_ / run).string()};
    auto settings = tiny_settings(
        folder_ / "data",
        {"training.num_epochs=" + std::to_string(epochs), "training.checkpoint_every_steps=2",
         "training.ema_momentum=0.9", "training.lr=0.01", "training.reduce_patience=2"});
    settings.insert(settings.end(), more.begin(), more.end());
    for (const std::string& setting : settings) {
      args.insert(args.end(), {"--set", setting});
    }
    return args;
  }
  std::string final_bytes(const std::string& run) const {
    return read_text_file(folder_ / run / "final_model.safetensors");
  }
  uint64_t metrics_size(const std::string& run) const {
    std::error_code missing;
    const auto size = fs::file_size(folder_ / run / "metrics.jsonl", missing);
    return missing ? 0 : size;
  }

  void expect_same_after_ten_kills(int epochs, const std::vector<std::string>& more);

  TempDir folder_;
};

// Each round lets the run get past another number of metrics bytes and then some more of its time,
// chosen by a counter, so that the kills fall into steps, validations and checkpoints alike.
void Interruption::expect_same_after_ten_kills(int epochs, const std::vector<std::string>& more) {
  const auto start = std::chrono::steady_clock::now();
  const ProcessResult undisturbed = run_stemfabric(arguments("whole", epochs, more));
  ASSERT_EQ(undisturbed.status, 0) << undisturbed.err;
  // Each kill comes within 1/24 of the metrics plus 1/60 of the time of a whole run, so that ten
  // fit into one, however fast the machine and its disk are.
  const auto longest_wait = (std::chrono::steady_clock::now() - start) / 60;
  const uint64_t whole = metrics_size("whole");
  int kills = 0;
  for (uint32_t round = 0; round < 60 && kills < 10; ++round) {
    Process process(stemfabric_argv(arguments("killed", epochs, more)));
    const auto draw = philox4x32_10({{round, 0, 0, 0}}, {{2024, 11}});
    const uint64_t target = metrics_size("killed") + draw.word[0] % (whole / 24);
    while (metrics_size("killed") < target && process.running()) {
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    std::this_thread::sleep_for(longest_wait * philox_uniform(draw.word[1]));
    process.signal(SIGKILL);
    if (process.wait().status == 128 + SIGKILL) {
      ++kills;
    }
    if (fs::exists(folder_ / "killed" / "training_summary.json")) {
      break;
    }
  }
  EXPECT_EQ(kills, 10);
  const ProcessResult last = run_stemfabric(arguments("killed", epochs, more));
  ASSERT_EQ(last.status, 0) << last.err;
  EXPECT_EQ(final_bytes("killed"), final_bytes("whole"));
  EXPECT_EQ(read_metrics(folder_ / "killed"), read_metrics(folder_ / "whole"));
  // The last weights too: the final ones may be those of an early epoch.
  const auto newest = [&](const char* run) {
    const auto all = list_checkpoints(folder_ / run / "checkpoints");
    return read_text_file(all.at(all.size() - 1) / "model.safetensors");
  };
  EXPECT_EQ(newest("killed"), newest("whole"));
  for (const auto& entry : fs::recursive_directory_iterator(folder_ / "killed")) {
    EXPECT_EQ(entry.path().string().find(".partial-"), std::string::npos) << entry.path();
  }
}

TEST_F(Interruption, KilledTenTimesEndsBitIdentical) { expect_same_after_ten_kills(24, {}); }

// All else that has a state: shuffling, every dropout, moving average, accumulation, AdamW, cosine
// schedule with warm-up, and early stopping, which ends this run after 31 of its epochs.
TEST_F(Interruption, KilledTenTimesWithEverythingThatHasAState) {
  expect_same_after_ten_kills(
      40, {"data.shuffle=true", "model.attn_dropout=0.2", "model.ff_dropout=0.2",
           "model.attention.dropout=0.1", "training.gradient_accumulation_steps=2",
           "training.optimizer=adamw", "training.weight_decay=0.05", "training.schedule=cosine",
           "training.warmup_steps=5", "training.grad_clip=0.5", "training.patience=30",
           "training.min_delta=1000"});
  EXPECT_EQ(read_json_file(folder_ / "killed" / "training_summary.json").at("end"),
            "early stopping");
}

class StopSignal : public Interruption, public testing::WithParamInterface<int> {};

TEST_P(StopSignal, SavesAWholeCheckpointAndExits75) {
  const std::vector<std::string> patient = {"training.patience=0"};
  ProcessResult result;
  {
    // Long enough not to end by itself; the number of epochs may differ on resuming.
    Process process(stemfabric_argv(arguments("stopped", 100000, patient)));
    while (metrics_size("stopped") == 0 && process.running()) {
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    process.signal(GetParam());
    result = process.wait();
  }
  EXPECT_EQ(result.status, 75) << result.err;
  const auto checkpoints = list_checkpoints(folder_ / "stopped" / "checkpoints");
  ASSERT_FALSE(checkpoints.empty());
  const Checkpoint newest = read_checkpoint(checkpoints.back());
  const auto steps = read_metrics(folder_ / "stopped", "step");
  EXPECT_EQ(newest.state.step, static_cast<int64_t>(steps.size()));  // no step was lost
  // Wherever it was stopped: some epochs further it has the weights of a run that never was.
  const int epochs = static_cast<int>(newest.state.epoch) + 3;
  ASSERT_EQ(run_stemfabric(arguments("stopped", epochs, patient)).status, 0);
  ASSERT_EQ(run_stemfabric(arguments("whole", epochs, patient)).status, 0);
  EXPECT_EQ(final_bytes("stopped"), final_bytes("whole"));
  EXPECT_EQ(read_metrics(folder_ / "stopped"), read_metrics(folder_ / "whole"));
}
INSTANTIATE_TEST_SUITE_P(Signals, StopSignal, testing::Values(SIGTERM, SIGINT, SIGUSR1));

TEST_F(Interruption, TwoTrainersCannotShareARunFolder) {
  Process first(stemfabric_argv(arguments("run", 100000)));
  while (metrics_size("run") == 0 && first.running()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  const ProcessResult second = run_stemfabric(arguments("run", 100000));
  EXPECT_EQ(second.status, 1);
  EXPECT_NE(second.err.find("another trainer"), std::string::npos) << second.err;
  first.signal(SIGTERM);
  EXPECT_EQ(first.wait().status, 75);
}

// A file size limit stands in for the full disk: every write beyond it fails in the same way.
TEST_F(Interruption, AFullDiskLeavesTheEarlierCheckpointWhole) {
  ASSERT_EQ(run_stemfabric(arguments("run", 1)).status, 0);
  const auto before = list_checkpoints(folder_ / "run" / "checkpoints");
  const uint64_t limit =
      fs::file_size(before.back() / "optimizer.safetensors") / 1024 / 2;  // KiB, half of it
  std::vector<std::string> command = {"/bin/bash", "-c",
                                      "ulimit -f " + std::to_string(limit) + "; exec \"$@\"", "-"};
  for (const std::string& argument : stemfabric_argv(arguments("run", 5))) {
    command.push_back(argument);
  }
  const ProcessResult result = run_process(command);
  EXPECT_EQ(result.status, 1) << result.err;
  EXPECT_NE(result.err.find("step-"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("File too large"), std::string::npos) << result.err;
  EXPECT_EQ(list_checkpoints(folder_ / "run" / "checkpoints"), before);
  EXPECT_EQ(read_checkpoint(before.back()).state.step, 6);
  // With space again, it goes on to the same end.
  ASSERT_EQ(run_stemfabric(arguments("run", 5)).status, 0);
  ASSERT_EQ(run_stemfabric(arguments("whole", 5)).status, 0);
  EXPECT_EQ(final_bytes("run"), final_bytes("whole"));
  EXPECT_EQ(read_metrics(folder_ / "run"), read_metrics(folder_ / "whole"));
}

TEST_F(Interruption, AFullDeviceUnderTheMetricsIsAnError) {
  fs::create_directories(folder_ / "run");
  fs::create_symlink("/dev/full", folder_ / "run" / "metrics.jsonl");
  const ProcessResult result = run_stemfabric(arguments("run", 1));
  EXPECT_EQ(result.status, 1) << result.err;
  EXPECT_NE(result.err.find("metrics.jsonl"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("No space left"), std::string::npos) << result.err;
}

}  // namespace
}  // namespace stemfabric::test
