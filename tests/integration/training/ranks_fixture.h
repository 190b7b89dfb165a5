// Trainings on several ranks, as mpirun starts them.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "tests/integration/stemfabric.h"
#include "tests/support/tiny_training.h"
#include "trainer/training/checkpoint.h"

namespace stemfabric::test {

// Long enough to be ended by the test, with many checkpoints.
inline const std::vector<std::string> kLong = {"training.num_epochs=100000", "training.patience=0"};

class RanksTest : public testing::Test {
 protected:
  void SetUp() override {
    if (std::string(SF_MPIRUN).empty()) {
      GTEST_SKIP() << "no mpirun, or a sanitizer, which cannot see what MPI does: training on "
                      "several ranks is not tested";
    }
    write_tiny_dataset(folder_ / "data", {.train = 29, .validation = 7});
  }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  // argv of a training with dropout, a moving average and several sums per step.
  std::vector<std::string> train(const std::string& run, int batch_size,
                                 const std::vector<std::string>& more = {},
                                 const std::vector<std::string>& options = {}) const {
    std::vector<std::string> args = {"train", "--output-dir", path(run)};
    args.insert(args.end(), options.begin(), options.end());
    auto settings = tiny_settings(
        folder_ / "data",
        {"training.batch_size=" + std::to_string(batch_size), "training.ema_momentum=0.9",
         "training.lr=0.01", "training.gradient_accumulation_steps=2", "training.grad_clip=0.5",
         "model.attention.dropout=0.1", "distributed.bucket_bytes=512", "model.depth=2"});
    settings.insert(settings.end(), more.begin(), more.end());
    for (const std::string& setting : settings) {
      args.insert(args.end(), {"--set", setting});
    }
    return stemfabric_argv(args);
  }
  static std::vector<std::string> on_ranks(int ranks, const std::vector<std::string>& argv) {
    std::vector<std::string> all = {
        SF_MPIRUN, "--allow-run-as-root", "--oversubscribe", "--bind-to", "none",
        "-n",      std::to_string(ranks)};
    all.insert(all.end(), argv.begin(), argv.end());
    return all;
  }
  // One rank with each of two command lines.
  static std::vector<std::string> on_two(const std::vector<std::string>& first,
                                         const std::vector<std::string>& second) {
    std::vector<std::string> argv = on_ranks(1, first);
    argv.insert(argv.end(), {":", "-n", "1"});
    argv.insert(argv.end(), second.begin(), second.end());
    return argv;
  }
  std::string bytes(const std::string& run) const {
    return read_text_file(folder_ / run / "final_model.safetensors");
  }
  std::vector<std::filesystem::path> checkpoints(const std::string& run) const {
    std::error_code none;
    return std::filesystem::exists(folder_ / run / "checkpoints", none)
               ? list_checkpoints(folder_ / run / "checkpoints")
               : std::vector<std::filesystem::path>();
  }
  // What shall be may take a busy machine long, and a job that has ended for ever.
  template <typename Condition>
  static bool wait_for(const Process& job, const Condition& condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(5);
    while (!condition()) {
      if (!job.running() || std::chrono::steady_clock::now() > deadline) {
        return false;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return true;
  }
  // A process of this test that is that rank; -1: there is none.
  pid_t rank_of(const std::string& run, int rank) const;
  // The same, once its run has a checkpoint.
  pid_t rank_with_checkpoint(const std::string& run, int rank, const Process& job) const {
    return wait_for(job, [&] { return !checkpoints(run).empty(); }) ? rank_of(run, rank) : -1;
  }

  TempDir folder_;
};

inline pid_t RanksTest::rank_of(const std::string& run, int rank) const {
  const auto contains = [](const std::filesystem::path& file, const std::string& text) {
    std::ifstream stream(file, std::ios::binary);
    const std::string all((std::istreambuf_iterator<char>(stream)), {});
    return all.find(text) != std::string::npos;
  };
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", none)) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") == std::string::npos &&
        contains(entry.path() / "cmdline", path(run)) &&
        contains(entry.path() / "environ", "OMPI_COMM_WORLD_RANK=" + std::to_string(rank) + '\0')) {
      return static_cast<pid_t>(std::stol(name));
    }
  }
  return -1;
}

}  // namespace stemfabric::test
