// Training on several ranks, as mpirun starts them: the same as on one, and what happens when one
// of them fails.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <fstream>
#include <iterator>
#include <optional>
#include <set>
#include <thread>

#include "tests/integration/stemfabric.h"
#include "tests/support/tiny_training.h"
#include "tests/trainer/audio_data/tiny_audio.h"
#include "trainer/training/checkpoint.h"

namespace stemfabric::test {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

class Ranks : public testing::Test {
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
                                 const std::vector<std::string>& more = {}) const {
    std::vector<std::string> args = {"train", "--output-dir", path(run)};
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
  std::string bytes(const std::string& run) const {
    return read_text_file(folder_ / run / "final_model.safetensors");
  }
  // Every loss within the rounding of sums in another order; everything that counts, exactly.
  void expect_same_metrics(const std::string& run, const std::string& reference) const;
  void expect_same_weights(const std::string& run, const std::string& reference) const;
  // A process of this test that is that rank, once its run has a checkpoint.
  pid_t rank_with_checkpoint(const std::string& run, int rank, const Process& job) const;

  TempDir folder_;
};

void Ranks::expect_same_metrics(const std::string& run, const std::string& reference) const {
  const auto metrics = read_metrics(folder_ / run);
  const auto expected = read_metrics(folder_ / reference);
  ASSERT_EQ(metrics.size(), expected.size());
  for (std::size_t i = 0; i < metrics.size(); ++i) {
    ASSERT_EQ(metrics[i].size(), expected[i].size());
    for (const auto& [key, value] : expected[i].items()) {
      const nlohmann::json& have = metrics[i].at(key);
      if (value.is_number_float()) {
        // Adam makes a full step of a gradient that is all rounding, so weights of little effect
        // drift.
        EXPECT_NEAR(have.get<double>(), value.get<double>(),
                    2e-4 * (1 + std::abs(value.get<double>())))
            << key << " of " << expected[i].dump();
      } else {
        EXPECT_EQ(have, value) << key << " of " << expected[i].dump();
      }
    }
  }
  const double first = metrics[0].at("loss").get<double>();
  EXPECT_NEAR(first, expected[0].at("loss").get<double>(), 1e-6 * first);
}

void Ranks::expect_same_weights(const std::string& run, const std::string& reference) const {
  const auto weights = read_all_tensors(folder_ / run / "final_model.safetensors");
  const auto expected = read_all_tensors(folder_ / reference / "final_model.safetensors");
  ASSERT_EQ(weights.size(), expected.size());
  double squares = 0;
  double difference = 0;
  for (const auto& [name, values] : expected) {
    const std::vector<float>& have = weights.at(name);
    ASSERT_EQ(have.size(), values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      squares += static_cast<double>(values[i]) * static_cast<double>(values[i]);
      const double d = static_cast<double>(have[i]) - static_cast<double>(values[i]);
      difference += d * d;
    }
  }
  EXPECT_LT(std::sqrt(difference / squares), 1e-3);
}

TEST_F(Ranks, TwoAndFourTrainAsOneWithTheWholeBatch) {
  const ProcessResult one = run_process(train("one", 8));
  ASSERT_EQ(one.status, 0) << one.err;
  struct Case {
    int ranks;
    const char* ordered;
  };
  for (const Case& c : {Case{2, "true"}, Case{4, "true"}, Case{4, "false"}}) {
    const std::string run = std::to_string(c.ranks) + c.ordered;
    const ProcessResult many = run_process(on_ranks(
        c.ranks, train(run, 8 / c.ranks, {std::string("distributed.deterministic=") + c.ordered})));
    ASSERT_EQ(many.status, 0) << many.err;
    EXPECT_THAT(many.err,
                HasSubstr("each step: 16 samples (" + std::to_string(8 / c.ranks) +
                          " x 2 micro-batches on " + std::to_string(c.ranks) + " processes)"));
    expect_same_metrics(run, "one");
    expect_same_weights(run, "one");
    EXPECT_NE(bytes(run), bytes("one"));  // they were several
  }
}

TEST_F(Ranks, OnlyRankZeroWritesAndTheSameRunGivesTheSameBytes) {
  ASSERT_EQ(run_process(train("one", 4)).status, 0);
  for (const char* run : {"first", "second"}) {
    const ProcessResult result = run_process(on_ranks(2, train(run, 4)));
    ASSERT_EQ(result.status, 0) << result.err;
  }
  EXPECT_EQ(bytes("first"), bytes("second"));
  const auto files = [&](const char* run) {
    std::set<std::string> names;
    for (const auto& entry : fs::recursive_directory_iterator(folder_ / run)) {
      if (entry.path().string().find("step-") == std::string::npos) {
        names.insert(fs::relative(entry.path(), folder_ / run).string());
      }
    }
    return names;
  };
  EXPECT_EQ(files("first"), files("one"));
}

// Chunks, their augmentations and the SDR of a validation do not know of ranks either.
TEST_F(Ranks, AudioTrainsOnTwoAsOnOne) {
  write_tiny_songs(folder_ / "songs", 5, 16000);
  const ProcessResult made =
      run_stemfabric({"dataset", "--audio", "songs", "--output-dir", "audio", "--run-label", "tiny",
                      "--set", "audio.sample_rate=8000", "--set", "data.train_ratio=0.6"},
                     folder_.path());
  ASSERT_EQ(made.status, 0) << made.err;
  const std::vector<std::string> audio = {"data.dataset_dir=" + path("audio/tiny"),
                                          "audio.chunk_size=4096",
                                          "audio.n_fft=512",
                                          "audio.hop_length=128",
                                          "model.mask=complex",
                                          "model.mask_bands=32"};
  const ProcessResult one = run_process(train("one", 4, audio));
  ASSERT_EQ(one.status, 0) << one.err;
  const ProcessResult two = run_process(on_ranks(2, train("two", 2, audio)));
  ASSERT_EQ(two.status, 0) << two.err;
  EXPECT_THAT(two.err, HasSubstr("SDR of chunks"));
  expect_same_metrics("two", "one");
}

TEST_F(Ranks, OneProcessOfMpirunIsASingleProcess) {
  // The program is not linked with MPI; it loads a module where it has company.
  const ProcessResult libraries = run_process({"/bin/bash", "-c", "ldd " SF_EXECUTABLE});
  ASSERT_EQ(libraries.status, 0) << libraries.err;
  EXPECT_THAT(libraries.out, AllOf(HasSubstr("libstdc++"), testing::Not(HasSubstr("libmpi"))));
  ASSERT_EQ(run_process(train("alone", 4)).status, 0);
  ASSERT_EQ(run_process(on_ranks(1, train("one", 4))).status, 0);
  EXPECT_EQ(bytes("one"), bytes("alone"));
}

TEST_F(Ranks, ACheckpointGoesOnOnAnotherNumberOfRanks) {
  ASSERT_EQ(run_process(train("whole", 8)).status, 0);
  const std::vector<std::string> half = {"training.num_epochs=1"};
  ASSERT_EQ(run_process(on_ranks(2, train("fewer", 4, half))).status, 0);
  ASSERT_EQ(run_process(train("more", 8, half)).status, 0);

  const ProcessResult other_step = run_process(train("fewer", 4));
  EXPECT_EQ(other_step.status, 2);
  EXPECT_THAT(other_step.err, HasSubstr("a step has 8 samples here"));
  EXPECT_THAT(other_step.err, HasSubstr("and 16 there (on 2 ranks)"));

  const ProcessResult fewer = run_process(train("fewer", 8));
  ASSERT_EQ(fewer.status, 0) << fewer.err;
  EXPECT_THAT(fewer.err, HasSubstr("resuming from"));
  const ProcessResult more = run_process(on_ranks(2, train("more", 4)));
  ASSERT_EQ(more.status, 0) << more.err;
  EXPECT_THAT(more.err, HasSubstr("resuming from"));
  for (const char* run : {"fewer", "more"}) {
    expect_same_weights(run, "whole");
  }
}

TEST_F(Ranks, RanksThatTrainOtherThingsAreRefused) {
  const auto refused = [&](const std::vector<std::string>& second) {
    std::vector<std::string> argv = on_ranks(1, train("refused", 4));
    argv.insert(argv.end(), {":", "-n", "1"});
    argv.insert(argv.end(), second.begin(), second.end());
    const ProcessResult result = run_process(argv);
    EXPECT_EQ(result.status, 2) << result.err;
    EXPECT_FALSE(fs::exists(folder_ / "refused" / "config.yaml"));
    return result.err;
  };
  EXPECT_THAT(
      refused(train("refused", 4, {"training.lr=0.02"})),
      AllOf(HasSubstr("the configuration of rank 1 has the hash "), HasSubstr("that of rank 0"),
            HasSubstr("training.lr is 0.01 on rank 0 and 0.02 there")));
  write_tiny_dataset(folder_ / "other", {.train = 29, .validation = 7, .seed = 2});
  EXPECT_THAT(refused(train("refused", 4, {"data.dataset_dir=" + path("other")})),
              HasSubstr("the data set of rank 1 has the hash "));
}

TEST_F(Ranks, AnErrorOfOneRankEndsAllWithItsStatus) {
  write_text_file(folder_ / "file", "no folder");
  const ProcessResult result = run_process(on_ranks(2, train("file/run", 4)));
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.err,
              HasSubstr("stemfabric train: error: cannot create folder " + path("file")));
}

TEST_F(Ranks, OnlyTrainWorksOnSeveralRanks) {
  const ProcessResult result =
      run_process(on_ranks(2, stemfabric_argv({"run", "--snapshot-dir", path("none"),
                                               "--output-dir", path("runs"), "--run-label", "x"})));
  EXPECT_EQ(result.status, 2);
  EXPECT_THAT(result.err, HasSubstr("only `train` works on several ranks"));
}

pid_t Ranks::rank_with_checkpoint(const std::string& run, int rank, const Process& job) const {
  const auto contains = [](const fs::path& file, const std::string& text) {
    std::ifstream stream(file, std::ios::binary);
    const std::string all((std::istreambuf_iterator<char>(stream)), {});
    return all.find(text) != std::string::npos;
  };
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(5);
  while (job.running() && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    std::error_code none;
    if (!fs::exists(folder_ / run / "checkpoints", none) ||
        list_checkpoints(folder_ / run / "checkpoints").empty()) {
      continue;
    }
    for (const auto& entry : fs::directory_iterator("/proc", none)) {
      const std::string name = entry.path().filename().string();
      if (name.find_first_not_of("0123456789") == std::string::npos &&
          contains(entry.path() / "cmdline", path(run)) &&
          contains(entry.path() / "environ",
                   "OMPI_COMM_WORLD_RANK=" + std::to_string(rank) + '\0')) {
        return static_cast<pid_t>(std::stol(name));
      }
    }
  }
  return -1;
}

// Long enough to be ended by the test, with many checkpoints.
const std::vector<std::string> kLong = {"training.num_epochs=100000", "training.patience=0"};

TEST_F(Ranks, AStoppedRankEndsTheRunInTimeAndIsNamed) {
  auto settings = kLong;
  settings.emplace_back("distributed.timeout_s=15");  // a busy machine must not reach it
  Process job(on_ranks(2, train("stopped", 4, settings)));
  const pid_t rank = rank_with_checkpoint("stopped", 1, job);
  ASSERT_GT(rank, 0) << job.wait().err;
  ASSERT_EQ(kill(rank, SIGSTOP), 0);
  const ProcessResult result = job.wait();
  EXPECT_EQ(result.status, 76) << result.err;
  EXPECT_THAT(result.err,
              AllOf(HasSubstr("rank 0 of 2 waited 15 s"), HasSubstr("in the collective '"),
                    HasSubstr("for rank 1, which died or hangs")));
  const auto newest = list_checkpoints(folder_ / "stopped" / "checkpoints").back();
  EXPECT_GT(read_checkpoint(newest).state.step, 0);
  const ProcessResult goes_on = run_process(train("stopped", 8, {"training.patience=0"}));
  EXPECT_EQ(goes_on.status, 0) << goes_on.err;
  EXPECT_THAT(goes_on.err, HasSubstr("resuming from"));
}

TEST_F(Ranks, AKilledRankEndsTheRunAndIsNamed) {
  // mpirun ends the others by SIGTERM; by SIGKILL only after this many seconds.
  auto argv = on_ranks(2, train("killed", 4, kLong));
  argv.insert(argv.begin() + 1, {"--mca", "odls_base_sigkill_timeout", "3"});
  Process job(argv);
  const pid_t rank = rank_with_checkpoint("killed", 1, job);
  ASSERT_GT(rank, 0) << job.wait().err;
  ASSERT_EQ(kill(rank, SIGKILL), 0);
  const ProcessResult result = job.wait();
  EXPECT_EQ(result.status, 128 + SIGKILL) << result.err;
  EXPECT_THAT(result.out + result.err, HasSubstr("process rank 1 with PID"));
  EXPECT_THAT(result.err, HasSubstr("told to end while rank 0 waits in the collective '"));
  const auto newest = list_checkpoints(folder_ / "killed" / "checkpoints").back();
  EXPECT_GT(read_checkpoint(newest).state.step, 0);
}

TEST_F(Ranks, ASignalSavesACheckpointAndTheRunGoesOnToTheSameBytes) {
  Process job(on_ranks(2, train("signalled", 4, kLong)));
  ASSERT_GT(rank_with_checkpoint("signalled", 1, job), 0) << job.wait().err;
  job.signal(SIGUSR1);
  const ProcessResult stopped = job.wait();
  ASSERT_EQ(stopped.status, 75) << stopped.err;
  EXPECT_THAT(stopped.err, HasSubstr("stopped by SIGUSR1 after step"));
  const auto newest = list_checkpoints(folder_ / "signalled" / "checkpoints").back();
  const std::string epochs = std::to_string(read_checkpoint(newest).state.epoch + 2);
  const std::vector<std::string> length = {"training.num_epochs=" + epochs, "training.patience=0"};
  const ProcessResult result = run_process(on_ranks(2, train("signalled", 4, length)));
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("resuming from"));
  const ProcessResult whole = run_process(on_ranks(2, train("whole", 4, length)));
  ASSERT_EQ(whole.status, 0) << whole.err;
  EXPECT_EQ(bytes("signalled"), bytes("whole"));
  EXPECT_EQ(read_metrics(folder_ / "signalled"), read_metrics(folder_ / "whole"));
}

}  // namespace
}  // namespace stemfabric::test
