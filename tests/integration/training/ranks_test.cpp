// Training on several ranks, as mpirun starts them: the same as on one, and what happens when one
// of them fails.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cmath>
#include <csignal>
#include <set>
#include <tuple>

#include "runtime/core/progress.h"
#include "tests/integration/training/ranks_fixture.h"
#include "tests/support/wait_until.h"
#include "tests/trainer/audio_data/tiny_audio.h"

namespace stemfabric::test {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

class Ranks : public RanksTest {
 protected:
  // Every loss within the rounding of sums in another order; everything that counts, exactly.
  void expect_same_metrics(const std::string& run, const std::string& reference) const;
  void expect_same_weights(const std::string& run, const std::string& reference) const;
};

// How many ranks told an error.
int errors(const ProcessResult& result) {
  int count = 0;
  const std::string mark = "stemfabric train: error: ";
  for (std::size_t at = result.err.find(mark); at != std::string::npos;
       at = result.err.find(mark, at + 1)) {
    ++count;
  }
  return count;
}

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
    const ProcessResult result = run_process(on_two(train("refused", 4), second));
    EXPECT_EQ(result.status, 2) << result.err;
    EXPECT_EQ(errors(result), 1) << result.err;
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
  EXPECT_EQ(errors(result), 1) << result.err;
}

// On a cluster n ranks would tell it n times.
TEST_F(Ranks, AnErrorOfAllIsToldOnce) {
  for (const auto& [setting, status, message] :
       {std::tuple{"training.batch_sise=4", 2, "training.batch_sise"},
        std::tuple{"data.dataset_dir=nowhere", 3, "nowhere"}}) {
    const ProcessResult result = run_process(on_ranks(3, train("run", 4, {setting})));
    EXPECT_EQ(result.status, status) << result.err;
    EXPECT_THAT(result.err, HasSubstr(message));
    EXPECT_EQ(errors(result), 1) << result.err;
  }
}

TEST_F(Ranks, AnErrorOfAnotherRankIsToldByIt) {
  const ProcessResult result =
      run_process(on_two(train("run", 4), train("run", 4, {"data.dataset_dir=nowhere"})));
  EXPECT_EQ(result.status, 3) << result.err;
  EXPECT_THAT(result.err, HasSubstr("rank 1: stemfabric train: error: nowhere"));
  EXPECT_EQ(errors(result), 1) << result.err;
}

// A file size limit stands in for the full disk.
TEST_F(Ranks, AFullDiskOfRankZeroEndsAllAndLeavesTheCheckpointWhole) {
  const std::vector<std::string> first = {"training.num_epochs=1"};
  const ProcessResult one_epoch = run_process(on_ranks(2, train("run", 4, first)));
  ASSERT_EQ(one_epoch.status, 0) << one_epoch.err;
  const auto before = checkpoints("run");
  const uint64_t limit = fs::file_size(before.back() / "optimizer.safetensors") / 1024 / 2;  // KiB
  std::vector<std::string> limited = {"/bin/bash", "-c",
                                      "ulimit -f " + std::to_string(limit) + "; exec \"$@\"", "-"};
  const auto command = train("run", 4);
  limited.insert(limited.end(), command.begin(), command.end());
  auto argv = on_two(limited, command);
  argv.insert(argv.begin() + 1, {"--mca", "btl", "tcp,self"});  // shared memory is a file, too
  const ProcessResult full = run_process(argv);
  EXPECT_EQ(full.status, 1) << full.err;
  EXPECT_THAT(full.err, AllOf(HasSubstr("step-"), HasSubstr("File too large")));
  EXPECT_EQ(errors(full), 1) << full.err;
  EXPECT_EQ(checkpoints("run"), before);
  const ProcessResult goes_on = run_process(on_ranks(2, command));
  ASSERT_EQ(goes_on.status, 0) << goes_on.err;
  EXPECT_THAT(goes_on.err, HasSubstr("resuming from"));
  ASSERT_EQ(run_process(on_ranks(2, train("whole", 4))).status, 0);
  EXPECT_EQ(bytes("run"), bytes("whole"));
}

TEST_F(Ranks, StopEarlyWhereOneWould) {
  const std::vector<std::string> impatient = {"training.num_epochs=50", "training.patience=2",
                                              "training.min_delta=1000"};
  ASSERT_EQ(run_process(train("one", 8, impatient)).status, 0);
  const ProcessResult two = run_process(on_ranks(2, train("two", 4, impatient)));
  ASSERT_EQ(two.status, 0) << two.err;
  EXPECT_EQ(read_json_file(folder_ / "two" / "training_summary.json").at("end"), "early stopping");
  expect_same_metrics("two", "one");  // of as many epochs
}

// Sample 3 is in the share of one rank, and no rank makes the step.
TEST_F(Ranks, AStepThatIsNotFiniteIsSkippedByAllAsByOne) {
  write_tiny_dataset(folder_ / "overflowing",
                     {.train = 29, .validation = 7, .overflowing_sample = 3});
  const std::vector<std::string> overflowing = {"data.dataset_dir=" + path("overflowing")};
  ASSERT_EQ(run_process(train("one", 8, overflowing)).status, 0);
  const ProcessResult two = run_process(on_ranks(2, train("two", 4, overflowing)));
  ASSERT_EQ(two.status, 0) << two.err;
  EXPECT_THAT(two.err, HasSubstr("song-3"));
  EXPECT_EQ(read_json_file(folder_ / "two" / "training_summary.json").at("skipped_steps"), 2);
  const auto skipped = [&](const std::string& run) {
    std::vector<std::pair<nlohmann::json, nlohmann::json>> steps;
    for (const nlohmann::json& step : read_metrics(folder_ / run, "step")) {
      if (step.contains("skipped")) {
        steps.emplace_back(step.at("step"), step.at("sample_ids"));
      }
    }
    return steps;
  };
  EXPECT_EQ(skipped("two").size(), 2U);  // one in each epoch
  EXPECT_EQ(skipped("two"), skipped("one"));
  expect_same_weights("two", "one");
}

TEST_F(Ranks, TooManyStepsThatAreNotFiniteEndAllWithOneError) {
  write_tiny_dataset(folder_ / "overflowing",
                     {.train = 29, .validation = 7, .overflowing_sample = 3});
  const ProcessResult two = run_process(on_ranks(
      2, train("two", 4,
               {"data.dataset_dir=" + path("overflowing"), "training.max_non_finite_steps=1"})));
  EXPECT_EQ(two.status, 1) << two.err;
  EXPECT_THAT(two.err, HasSubstr("training stopped at step "));
  EXPECT_EQ(errors(two), 1) << two.err;
  EXPECT_TRUE(fs::exists(folder_ / "two" / "report.html"));
}

TEST_F(Ranks, ADryRunTakesOneStepAndWritesNothing) {
  const ProcessResult two = run_process(on_ranks(2, train("two", 4, {}, {"--dry-run"})));
  ASSERT_EQ(two.status, 0) << two.err;
  EXPECT_THAT(two.err,
              AllOf(HasSubstr("each step: 16 samples (4 x 2 micro-batches on 2 processes)"),
                    HasSubstr("MiB sums over ranks"), HasSubstr("dry run: one step took")));
  EXPECT_FALSE(fs::exists(folder_ / "two"));
  ASSERT_EQ(run_process(train("one", 8)).status, 0);
  const nlohmann::json first = read_metrics(folder_ / "one", "step").at(0);
  EXPECT_THAT(two.err, HasSubstr("loss " + format_number(first.at("loss").get<double>())));
}

TEST_F(Ranks, OnlyTrainWorksOnSeveralRanks) {
  const ProcessResult result =
      run_process(on_ranks(2, stemfabric_argv({"run", "--snapshot-dir", path("none"),
                                               "--output-dir", path("runs"), "--run-label", "x"})));
  EXPECT_EQ(result.status, 2);
  EXPECT_THAT(result.err, HasSubstr("only `train` works on several ranks"));
}

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

TEST_F(Ranks, ASignalOfOneRankStopsAllAndIsNamed) {
  Process job(on_ranks(2, train("one", 4, kLong)));
  const pid_t rank = rank_with_checkpoint("one", 1, job);
  ASSERT_GT(rank, 0) << job.wait().err;
  ASSERT_EQ(kill(rank, SIGUSR1), 0);
  const ProcessResult stopped = job.wait();
  EXPECT_EQ(stopped.status, 75) << stopped.err;
  EXPECT_THAT(stopped.err, HasSubstr("stopped by SIGUSR1 after step"));
}

// Before MPI starts, while it does (the other rank never comes), and while data are read.
TEST_F(Ranks, ASignalBeforeTrainingEndsItWithTheSameStatus) {
  const auto catches = [](pid_t process, int signal) {
    std::ifstream status("/proc/" + std::to_string(process) + "/status");
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with("SigCgt:")) {
        return (std::stoull(line.substr(7), nullptr, 16) >> (signal - 1) & 1U) != 0;
      }
    }
    return false;
  };
  // Nobody writes into it: who opens it waits.
  write_tiny_dataset(folder_ / "waits", {.train = 29, .validation = 7});
  ASSERT_EQ(mkfifo(path("waits/train/shard-000009.safetensors").c_str(), 0600), 0);
  const auto loading = train("loading", 4, {"data.dataset_dir=" + path("waits")});
  const std::vector<std::string> absent = {"/bin/bash", "-c", "trap '' USR1; exec sleep 1000"};
  for (const auto& [argv, ranks] :
       {std::pair{on_two(train("loading", 4), absent), 1}, std::pair{on_ranks(2, loading), 2}}) {
    Process job(argv);
    for (int rank = 0; rank < ranks; ++rank) {
      ASSERT_TRUE(wait_for(job, [&] {
        const pid_t process = rank_of("loading", rank);
        return process > 0 && catches(process, SIGUSR1);
      })) << job.wait().err;
    }
    job.signal(SIGUSR1);
    // Where a rank ends while another one is still connecting, Open MPI's mpiexec may wait for a
    // lock of its own for ever, in PMIx_server_finalize, long after its ranks.
    if (!wait_until([&] { return !job.running(); })) {
      GTEST_SKIP() << "mpiexec does not end";
    }
    const ProcessResult result = job.wait();
    EXPECT_EQ(result.status, 75) << result.err;
    EXPECT_THAT(result.err, HasSubstr("stopped by SIGUSR1 before training began"));
    EXPECT_FALSE(fs::exists(folder_ / "loading"));
  }
}

}  // namespace
}  // namespace stemfabric::test
