// `stemfabric run` on the snapshots that come with the tests.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "runtime/io/file.h"
#include "runtime/io/folder_lock.h"
#include "tests/integration/stemfabric.h"

namespace stemfabric::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class RunCommand : public testing::Test {
 protected:
  std::vector<std::string> args(const std::string& label,
                                const std::vector<std::string>& more = {}) const {
    std::vector<std::string> list = {
        "run",           "--quiet",
        "--snapshotDir", (data_dir() / "snapshots").string(),
        "--output-dir",  dir_.path().string(),
        "--run-label",   label,
        "--config",      (source_dir() / "configs/quickstart.yaml").string(),
        "--set",         "training.num_epochs=3"};
    list.insert(list.end(), more.begin(), more.end());
    return list;
  }
  ProcessResult run(const std::string& label, const std::vector<std::string>& more = {}) const {
    return run_stemfabric(args(label, more));
  }

  TempDir dir_;
};

TEST_F(RunCommand, GoesFromSnapshotsToAReport) {
  const auto result = run("first", {"--train-ratio", "0.75"});
  ASSERT_EQ(result.status, 0) << result.err;
  for (const char* part : {"8 accepted (0 repaired)", " for training, ", "3 epochs",
                           "best validation loss ", "SDR dB", "vocals", "sub", "report.html"}) {
    EXPECT_THAT(result.out, HasSubstr(part));
  }
  const fs::path folder = dir_ / "first";
  for (const char* file :
       {"pipeline.json", "sanitized.jsonl", "sanitize_report.json", "dataset/manifest.json",
        "run/final_model.safetensors", "run/final_model.h5", "run/config.yaml",
        "evaluation/evaluation_report.json", "evaluation/report.html"}) {
    EXPECT_TRUE(fs::exists(folder / file)) << file;
  }
  const auto report =
      nlohmann::json::parse(read_text_file(folder / "evaluation" / "evaluation_report.json"));
  EXPECT_TRUE(report.at("aggregateMetrics").contains("sdr"));
}

TEST_F(RunCommand, RefusesToWriteAmongTheSnapshots) {
  fs::create_directory(dir_ / "in");
  const auto result =
      run_stemfabric({"run", "--snapshot-dir", (dir_ / "in").string(), "--output-dir",
                      (dir_ / "in/out").string(), "--run-label", "a"});
  EXPECT_EQ(result.status, 2);
  EXPECT_THAT(result.err, HasSubstr("lies inside --snapshot-dir"));
  EXPECT_TRUE(fs::is_empty(dir_ / "in"));
}

TEST_F(RunCommand, CalledAgainKeepsWhatIsDoneAndExtendsTheTraining) {
  ASSERT_EQ(run("again").status, 0);
  const fs::path shard = dir_ / "again/dataset/train/shard-00000.safetensors";
  const auto made = fs::last_write_time(shard);
  const auto weights = sha256_file(dir_ / "again/run/final_model.safetensors");
  const auto same = run("again");
  EXPECT_EQ(same.status, 0) << same.err;
  EXPECT_EQ(fs::last_write_time(shard), made);
  EXPECT_EQ(sha256_file(dir_ / "again/run/final_model.safetensors"), weights);
  EXPECT_THAT(same.out, HasSubstr("8 accepted"));

  const auto longer = run("again", {"--set", "training.num_epochs=4"});
  EXPECT_EQ(longer.status, 0) << longer.err;
  EXPECT_THAT(longer.out, HasSubstr("4 epochs"));
  EXPECT_EQ(fs::last_write_time(shard), made);
}

TEST_F(RunCommand, OtherDataForALabelInUseIsRefused) {
  ASSERT_EQ(run("used").status, 0);
  const auto ratio = run("used", {"--train-ratio", "0.5"});
  EXPECT_EQ(ratio.status, 2);
  EXPECT_THAT(ratio.err, HasSubstr("data.train_ratio = 0.8, this call has 0.5; use another"));
  auto other = args("used");
  other[3] = (data_dir() / "bad_snapshots").string();
  const auto snapshots = run_stemfabric(other);
  EXPECT_EQ(snapshots.status, 2);
  EXPECT_THAT(snapshots.err, HasSubstr("was made from other snapshots"));

  write_text_file(dir_ / "used/pipeline.json", "{\"format\": ");
  const auto damaged = run("used");
  EXPECT_EQ(damaged.status, 3);
  EXPECT_THAT(damaged.err, HasSubstr("pipeline.json is damaged"));
}

// What a second call takes over from the first is hashed.
TEST_F(RunCommand, WhatIsKeptIsNotTakenOverDamaged) {
  ASSERT_EQ(run("kept").status, 0);
  const auto replace = [](const fs::path& file, const std::string& from, const std::string& to) {
    std::string text = read_text_file(file);
    const std::size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    write_text_file(file, text.replace(at, from.size(), to));
  };
  const fs::path state = dir_ / "kept/pipeline.json";
  replace(state, "\"accepted\": 8", "\"accepted\": 9");
  EXPECT_THAT(run("kept").err, HasSubstr("pipeline.json is damaged"));
  replace(state, "\"accepted\": 9", "\"accepted\": 8");
  EXPECT_EQ(run("kept").status, 0);

  replace(dir_ / "kept/sanitized.jsonl", "\"sample", "\"tample");
  // Whether the data set is kept too or has to be made of them again.
  for (const bool with_dataset : {true, false}) {
    if (!with_dataset) {
      fs::remove_all(dir_ / "kept/dataset");
    }
    const auto damaged = run("kept");
    EXPECT_EQ(damaged.status, 3) << with_dataset;
    EXPECT_THAT(damaged.err, HasSubstr("sanitized.jsonl: was changed or damaged"));
  }
  fs::remove(dir_ / "kept/sanitized.jsonl");
  EXPECT_EQ(run("kept").status, 0);  // the same records, data and weights again
}

// Until something was trained, a label is not used up.
TEST_F(RunCommand, AfterFailedFirstStagesACorrectedCallWorks) {
  const TempDir bad;
  auto list = args("early");
  list[3] = bad.path().string();
  const auto empty = run_stemfabric(list);
  EXPECT_EQ(empty.status, 3);
  EXPECT_THAT(empty.err, HasSubstr("holds no *.json or *.jsonl file"));
  write_text_file(bad / "no.json", "{}");
  EXPECT_EQ(run_stemfabric(list).status, 3);
  const auto bands = run("early", {"--targets", "bands"});
  EXPECT_EQ(bands.status, 3);
  EXPECT_THAT(bands.err, HasSubstr("use --targets samples"));
  const auto corrected = run("early", {"--targets", "samples", "--train-ratio", "0.7"});
  EXPECT_EQ(corrected.status, 0) << corrected.err;
  EXPECT_THAT(corrected.out, HasSubstr("8 accepted"));
  EXPECT_EQ(run("early", {"--train-ratio", "0.6"}).status, 2);  // now there is something to lose
}

// Every option that an error of `run` names is one of `run`.
TEST_F(RunCommand, HintsNameOptionsThatItHas) {
  const std::string help = run_stemfabric({"run", "--help"}).out;
  const auto expect_own_options = [&](const std::string& text) {
    for (std::size_t at = text.find(" --"); at != std::string::npos;
         at = text.find(" --", at + 1)) {
      const std::size_t end = text.find_first_not_of("-abcdefghijklmnopqrstuvwxyz", at + 1);
      EXPECT_THAT(help, HasSubstr(text.substr(at + 1, end - at - 1))) << text;
    }
  };
  ASSERT_EQ(run("hints").status, 0);
  const auto other = run("hints", {"--set", "training.lr=0.5"});
  EXPECT_EQ(other.status, 2);
  EXPECT_THAT(other.err, HasSubstr("--resume never"));
  expect_own_options(other.err);
  for (const auto& entry : fs::directory_iterator(dir_ / "hints/run/checkpoints")) {
    if (entry.is_directory()) {
      write_text_file(entry.path() / "state.json", "{}");
    }
  }
  const auto damaged = run("hints");
  EXPECT_EQ(damaged.status, 3);
  EXPECT_THAT(damaged.err, HasSubstr("--resume never"));
  expect_own_options(damaged.err);
  const auto again = run("hints", {"--resume", "never"});
  EXPECT_EQ(again.status, 0) << again.err;
  EXPECT_TRUE(fs::exists(dir_ / "hints/run/previous-1"));
  expect_own_options(run("unbanded", {"--targets", "bands"}).err);
}

TEST_F(RunCommand, WithoutValidationRecordsTheTrainingOnesAreScored) {
  const TempDir one;
  fs::copy(data_dir() / "snapshots/s05_lanterns.json", one / "a.json");
  auto list = args("single");
  list[3] = one.path().string();
  const auto result = run_stemfabric(list);
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("medians over the training records"));
  EXPECT_THAT(result.err, HasSubstr("no validation records"));
}

TEST_F(RunCommand, WrongArgumentsAreNamed) {
  for (const char* label : {"a/b", "..", "-x", "", "a b"}) {
    const auto result =
        run_stemfabric({"run", "--snapshot-dir", data_dir() / "snapshots", "--output-dir",
                        dir_.path().string(), std::string("--run-label=") + label});
    EXPECT_EQ(result.status, 2) << label;
    EXPECT_THAT(result.err, HasSubstr("--run-label")) << label;
  }
  const auto ratio = run("x", {"--train-ratio", "7"});
  EXPECT_EQ(ratio.status, 2);
  EXPECT_THAT(ratio.err, HasSubstr("--train-ratio: data.train_ratio: 7 is out of range"));
  fs::create_directories(dir_ / "mine");
  write_text_file(dir_ / "mine/precious.txt", "x");
  EXPECT_THAT(run("mine").err, HasSubstr("was not made by `stemfabric run`"));
  EXPECT_TRUE(fs::exists(dir_ / "mine/precious.txt"));
}

TEST_F(RunCommand, OneAtATimeInAFolder) {
  fs::create_directories(dir_ / "busy");
  const std::string refused = [&] {
    const FolderLock other(dir_ / "busy", "`stemfabric run`", "--run-label");
    return run("busy").err;
  }();
  EXPECT_THAT(refused, HasSubstr("another `stemfabric run` (process "));
  EXPECT_THAT(refused, HasSubstr("--run-label"));
  EXPECT_FALSE(fs::exists(dir_ / "busy/pipeline.json"));
  EXPECT_EQ(run("busy").status, 0);
}

TEST_F(RunCommand, SnapshotsThatAreAllRefusedExitWith3) {
  const TempDir bad;
  write_text_file(bad / "no.json", "{}");
  auto list = args("none");
  list[3] = bad.path().string();
  const auto result = run_stemfabric(list);
  EXPECT_EQ(result.status, 3);
  EXPECT_THAT(result.err, HasSubstr("no snapshot of"));
  EXPECT_TRUE(fs::exists(dir_ / "none/sanitize_report.json"));
  list[3] = (bad / "absent").string();
  list[7] = "absent";
  const auto absent = run_stemfabric(list);
  EXPECT_EQ(absent.status, 3);
  EXPECT_THAT(absent.err, HasSubstr("does not exist"));
  EXPECT_FALSE(fs::exists(dir_ / "absent"));
}

TEST_F(RunCommand, ASignalSavesACheckpointAndTheNextCallGoesOn) {
  const std::vector<std::string> longer = {"--set", "training.num_epochs=100000", "--set",
                                           "training.patience=0"};
  Process process(stemfabric_argv(args("stopped", longer)));
  const fs::path metrics = dir_ / "stopped/run/metrics.jsonl";
  std::error_code error;
  for (int i = 0; i < 24000 && (!fs::exists(metrics, error) || fs::file_size(metrics) == 0); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  process.signal(SIGTERM);
  const auto stopped = process.wait();
  EXPECT_EQ(stopped.status, 75) << stopped.err;
  EXPECT_THAT(stopped.out, HasSubstr("run the same command again"));
  EXPECT_FALSE(fs::exists(dir_ / "stopped/evaluation"));
  int64_t saved = 0;
  for (const auto& entry : fs::directory_iterator(dir_ / "stopped/run/checkpoints")) {
    const std::string name = entry.path().filename();
    if (name.starts_with("step-")) {
      saved = std::max<int64_t>(saved, std::stoll(name.substr(5)));
    }
  }
  EXPECT_GE(saved, 1);
  const auto ended =
      run("stopped", {"--set", "training.patience=0", "--set", "training.num_epochs=100000",
                      "--set", "training.num_steps=" + std::to_string(saved + 2)});
  EXPECT_EQ(ended.status, 0) << ended.err;
  EXPECT_THAT(ended.out, HasSubstr(fmt::format(" {} steps", saved + 2)));
}

}  // namespace
}  // namespace stemfabric::test
