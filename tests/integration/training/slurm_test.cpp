// The job scripts of scripts/slurm in a real Slurm, which scripts/slurm/local_slurm.sh sets up for
// it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <thread>

#include "tests/integration/stemfabric.h"
#include "tests/support/tiny_training.h"
#include "trainer/training/checkpoint.h"

namespace stemfabric::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

ProcessResult shell(const std::string& command) {
  return run_process({"/bin/bash", "-c", command});
}

class Slurm : public testing::Test {
 protected:
  void SetUp() override {
    const bool there = shell("command -v munged slurmctld slurmd sbatch >&2").status == 0;
    if (std::string(SF_MPIRUN).empty() || !there || ::geteuid() != 0) {
      GTEST_SKIP() << "needs MPI, Debian's slurm-wlm and munge, and root, without a sanitizer: "
                      "job scripts are not tested";
    }
    const ProcessResult started = shell(script("local_slurm.sh") + " start " + path("slurm"));
    ASSERT_EQ(started.status, 0) << started.err;
    ::setenv("SLURM_CONF", path("slurm/slurm.conf").c_str(), 1);
    write_tiny_dataset(folder_ / "data", {.train = 240, .validation = 6});
  }
  void TearDown() override {
    if (fs::exists(folder_ / "slurm")) {
      EXPECT_EQ(shell(script("local_slurm.sh") + " stop " + path("slurm")).status, 0);
      ::unsetenv("SLURM_CONF");
    }
  }

  static std::string script(const std::string& name) {
    return (source_dir() / "scripts" / "slurm" / name).string();
  }
  // Runs a command line with the executable under test in the environment.
  static ProcessResult with_program(const std::string& command) {
    return shell(std::string("export PYTHONDONTWRITEBYTECODE=1 STEMFABRIC=") + SF_EXECUTABLE +
                 "; " + command);
  }
  static std::string sweep(const std::string& arguments) {
    return (source_dir() / "scripts" / "sweep.py").string() + " " + arguments;
  }
  bool says(const std::string& file, const std::string& text) const {
    return fs::exists(folder_ / file) &&
           read_text_file(folder_ / file).find(text) != std::string::npos;
  }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  // Options of a training whose length the file `epochs.yaml` says.
  std::string options(const std::string& run) const {
    std::string text = " --config " + path("epochs.yaml") + " --output-dir " + path(run);
    for (const std::string& setting : tiny_settings(folder_ / "data", {"training.patience=0"})) {
      if (!setting.starts_with("training.num_epochs=")) {
        text += " --set " + setting;
      }
    }
    return text;
  }
  void set_epochs(int64_t epochs) const {
    write_text_file(folder_ / "epochs.yaml",
                    "training:\n  num_epochs: " + std::to_string(epochs) + "\n");
  }
  // Waits for at most five minutes.
  template <typename Condition>
  static bool wait_for(const Condition& condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(5);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > deadline) {
        return false;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return true;
  }

  TempDir folder_;
};

TEST_F(Slurm, AJobThatIsSignalledIsRequeuedAndEndsWithTheSameWeights) {
  set_epochs(1000000);
  const std::string log = path("job.log");
  const ProcessResult submitted = with_program("sbatch --parsable --output=" + log + " " +
                                               script("train.sbatch") + options("job"));
  ASSERT_EQ(submitted.status, 0) << submitted.err;
  const std::string job = submitted.out.substr(0, submitted.out.find('\n'));
  const auto said = [&](const std::string& text) {
    return fs::exists(log) && read_text_file(log).find(text) != std::string::npos;
  };
  ASSERT_TRUE(wait_for([&] {
    return fs::exists(folder_ / "job" / "checkpoints") &&
           !list_checkpoints(folder_ / "job" / "checkpoints").empty();
  })) << (fs::exists(log) ? read_text_file(log) : "no log");
  ASSERT_EQ(shell("scancel --signal=USR1 " + job).status, 0);
  // 75, or the signal by which srun ended the other rank.
  ASSERT_TRUE(wait_for([&] { return said("back into the queue (restart 1)"); }))
      << read_text_file(log);
  // For the job's second start, which Slurm delays by some seconds.
  const auto newest = list_checkpoints(folder_ / "job" / "checkpoints").back();
  set_epochs(checkpoint_step(newest) / 30 + 2);  // 30 steps per epoch
  ASSERT_TRUE(wait_for([&] { return fs::exists(folder_ / "job" / "training_summary.json"); }))
      << read_text_file(log);
  EXPECT_TRUE(said("stopped by SIGUSR1"));
  EXPECT_TRUE(said("resuming from"));

  const ProcessResult whole =
      shell(std::string("srun --mpi=pmix -n 2 ") + SF_EXECUTABLE + " train" + options("whole"));
  ASSERT_EQ(whole.status, 0) << whole.err;
  EXPECT_THAT(whole.err, HasSubstr("on 2 processes"));
  EXPECT_EQ(read_text_file(folder_ / "job" / "final_model.safetensors"),
            read_text_file(folder_ / "whole" / "final_model.safetensors"));
}

TEST_F(Slurm, TheTableOfASweepSaysWhatBecameOfEachTrial) {
  write_text_file(folder_ / "trials.txt",
                  "training.num_epochs=2\ntraining.init_from=" + path("nowhere.safetensors") +
                      "\ntraining.num_epochs=1000000 training.patience=0\n");
  std::string arguments = "submit --trials " + path("trials.txt") + " --output-dir " +
                          path("sweep") + " --dataset-dir " + path("data");
  for (const std::string& setting : tiny_settings(folder_ / "data")) {
    arguments += " --set " + setting;
  }
  const ProcessResult submitted = with_program(sweep(arguments));
  ASSERT_EQ(submitted.status, 0) << submitted.err;
  const ProcessResult again = with_program(sweep(arguments));
  EXPECT_EQ(again.status, 0) << again.err;
  EXPECT_THAT(again.out, HasSubstr("running or in the queue"));
  const fs::path checkpoints = folder_ / "sweep" / "trial-003" / "checkpoints";
  ASSERT_TRUE(wait_for([&] {
    return says("sweep/results.md", "| done ") && says("sweep/results.md", "| failed ") &&
           fs::exists(checkpoints) && !list_checkpoints(checkpoints).empty();
  })) << read_text_file(folder_ / "sweep" / "results.md");
  EXPECT_TRUE(says("sweep/results.md", "nowhere.safetensors"));
  const std::string job =
      submitted.out.substr(4, submitted.out.find(':') - 4);  // "job 12: trials 1,2,3"
  ASSERT_EQ(shell("scancel --signal=USR1 " + job + "_3").status, 0);
  ASSERT_TRUE(wait_for(
      [&] { return says("sweep/logs/trial-003.log", "back into the queue (restart 1)"); }));
  ASSERT_TRUE(wait_for([&] {
    return with_program(sweep("table " + path("sweep"))).out.find("| queued") != std::string::npos;
  })) << read_text_file(folder_ / "sweep" / "results.md");
  EXPECT_EQ(shell("scancel " + job).status, 0);
  ASSERT_TRUE(wait_for([&] {
    return with_program(sweep("table " + path("sweep"))).out.find("| stopped") != std::string::npos;
  })) << read_text_file(folder_ / "sweep" / "results.md");
}

TEST_F(Slurm, ARoundOfContinuousLearningThatIsSignalledIsRequeuedAndEnds) {
  const ProcessResult submitted = with_program(
      "SCRIPTS=" + (source_dir() / "scripts").string() + " sbatch --parsable --output=" +
      path("job.log") + " " + script("continuous.sbatch") + " --folder " + path("learning") +
      " --held-out 0.3 --seed 2 --input " + (source_dir() / "tests/data/snapshots").string() +
      " --set features.time_bins=4 --set model.dim=16 --set model.depth=1 --set model.heads=2"
      " --set model.dim_ff=16 --set training.threads=1 --set training.num_steps=1500"
      " --set training.checkpoint_every_steps=10");
  ASSERT_EQ(submitted.status, 0) << submitted.err;
  const fs::path checkpoints = folder_ / "learning" / "rounds" / "0001" / "run" / "checkpoints";
  ASSERT_TRUE(wait_for([&] {
    return fs::exists(checkpoints) && !list_checkpoints(checkpoints).empty();
  })) << (fs::exists(folder_ / "job.log") ? read_text_file(folder_ / "job.log") : "no log");
  const std::string job = submitted.out.substr(0, submitted.out.find('\n'));
  ASSERT_EQ(shell("scancel --batch --signal=USR1 " + job).status, 0);
  ASSERT_TRUE(wait_for([&] { return says("job.log", "promoted: the first model"); }))
      << read_text_file(folder_ / "job.log");
  EXPECT_TRUE(says("job.log", "stopped by SIGUSR1; run the same command again to go on"));
  EXPECT_TRUE(says("job.log", "back into the queue (restart 1)"));
  EXPECT_TRUE(says("job.log", "goes on where it was stopped"));
  EXPECT_TRUE(says("learning/registry.json", "\"decision\": \"promoted\""));
}

}  // namespace
}  // namespace stemfabric::test
