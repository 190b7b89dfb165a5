#include "trainer/training/run_directory.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "runtime/core/check.h"
#include "runtime/io/file.h"
#include "tests/support/tiny_training.h"
#include "trainer/training/metrics_log.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;
using test::TempDir;

TEST(RunDirectory, OneTrainerAtATime) {
  const TempDir folder;
  {
    const RunDirectory first(folder / "run");
    try {
      const RunDirectory second(folder / "run");
      FAIL() << "two trainers share a run folder";
    } catch (const IoError& error) {
      const std::string text = error.what();
      EXPECT_NE(text.find((folder / "run").string()), std::string::npos) << text;
      EXPECT_NE(text.find("process " + std::to_string(::getpid())), std::string::npos) << text;
    }
  }
  EXPECT_NO_THROW(RunDirectory(folder / "run"));
}

TEST(RunDirectory, RemovesPartialFilesOfKilledRunsOnly) {
  const TempDir folder;
  const fs::path checkpoints = folder / "run" / "checkpoints";
  fs::create_directories(checkpoints / "step-000005.partial-123-0");
  fs::create_directories(checkpoints / "step-000004");
  write_text_file(checkpoints / "step-000005.partial-123-0" / "state.json", "x");
  write_text_file(folder / "run" / "final_model.h5.partial-9-9", "x");
  write_text_file(folder / "run" / "notes.txt", "mine");
  write_text_file(folder / "run" / "notes.partial-old.txt", "mine");
  fs::create_directories(folder / "run" / "songs.partial-mix");
  AtomicFile report(folder / "run" / "report.html");  // somebody is writing it
  const auto held = [&] {
    std::size_t count = 0;
    for (const auto& entry : fs::directory_iterator(folder / "run")) {
      count += entry.path().filename().string().starts_with("report.html.partial-") ? 1U : 0U;
    }
    return count;
  };
  ASSERT_EQ(held(), 1U);
  const RunDirectory run(folder / "run");
  EXPECT_FALSE(fs::exists(checkpoints / "step-000005.partial-123-0"));
  EXPECT_FALSE(fs::exists(folder / "run" / "final_model.h5.partial-9-9"));
  EXPECT_TRUE(fs::exists(checkpoints / "step-000004"));
  EXPECT_TRUE(fs::exists(folder / "run" / "notes.txt"));
  EXPECT_TRUE(fs::exists(folder / "run" / "notes.partial-old.txt"));
  EXPECT_TRUE(fs::exists(folder / "run" / "songs.partial-mix"));
  EXPECT_EQ(held(), 1U);
}

TEST(RunDirectory, AnUnusablePlaceIsAnIoError) {
  const TempDir folder;
  write_text_file(folder / "file", "x");
  try {
    const RunDirectory run(folder / "file" / "run");
    FAIL();
  } catch (const IoError& error) {
    EXPECT_NE(std::string(error.what()).find((folder / "file").string()), std::string::npos);
  }
}

TEST(MetricsLog, CutsOffWhatWillBeTakenAgain) {
  const TempDir folder;
  uint64_t kept = 0;
  {
    MetricsLog log(folder / "metrics.jsonl", 0);
    log.append(R"({"step":1})");
    log.sync();
    kept = log.bytes();
    log.append(R"({"step":2})");
    log.append(R"({"ste)");  // killed in the middle of a line
  }
  {
    MetricsLog log(folder / "metrics.jsonl", kept);
    log.append(R"({"step":2})");
  }
  EXPECT_EQ(read_text_file(folder / "metrics.jsonl"), "{\"step\":1}\n{\"step\":2}\n");
}

TEST(MetricsLog, KeepsALogThatIsTooShort) {
  const TempDir folder;
  write_text_file(folder / "metrics.jsonl", "{\"step\":9}\n");
  MetricsLog log(folder / "metrics.jsonl", 1000);
  log.append("{}");
  EXPECT_EQ(log.bytes(), 14U);
  EXPECT_EQ(read_text_file(folder / "metrics.jsonl"), "{\"step\":9}\n{}\n");
}

TEST(MetricsLog, StepLineHasTheDocumentedKeys) {
  StepRecord record{.step = 3, .epoch = 1, .lr = 0.5, .grad_norm = 2.0, .samples = 4};
  record.loss.total = 21;
  record.loss.stem = {1, 2, 3, 4, 5, 6};
  auto json = nlohmann::json::parse(step_line(record));
  EXPECT_EQ(json.at("kind"), "step");
  EXPECT_EQ(json.at("step"), 3);
  EXPECT_EQ(json.at("loss"), 21.0);
  EXPECT_EQ(json.at("loss_vocals"), 1.0);
  EXPECT_EQ(json.at("loss_sub"), 6.0);
  EXPECT_EQ(json.at("lr"), 0.5);
  EXPECT_EQ(json.at("grad_norm"), 2.0);
  EXPECT_FALSE(json.contains("skipped"));
  record.skipped = "the loss of stem bass";
  record.sample_ids = {"a", "b\xff"};  // an id that is no UTF-8 does not break the line
  record.loss.total = NAN;
  json = nlohmann::json::parse(step_line(record));
  EXPECT_TRUE(json.at("loss").is_null());
  EXPECT_EQ(json.at("sample_ids").size(), 2U);
}

}  // namespace
}  // namespace stemfabric
