#include "trainer/snapshot/sanitize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/core.h>
#include <sys/stat.h>

#include <sstream>

#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "tests/trainer/snapshot/snapshot_files.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;
using test::control_with;
using test::Json;
using ::testing::HasSubstr;

std::string snapshot(int number) {
  return control_with([&](Json& s) {
    s["id"] = fmt::format("00000000-0000-4000-8000-{:012}", number);
    s["metadata"]["processingTime"] = number;
  });
}
std::string hashed(int number, const std::string& salt = "") {
  return sha256_hex(salt + fmt::format("00000000-0000-4000-8000-{:012}", number));
}

class Sanitize : public testing::Test {
 protected:
  Sanitize() {
    fs::create_directory(dir_ / "in");
    set_log_level(LogLevel::kError);
  }
  ~Sanitize() override { set_log_level(LogLevel::kInfo); }

  void put(const std::string& name, const std::string& text) {
    fs::create_directories((in() / name).parent_path());
    write_text_file(in() / name, text);
  }
  fs::path in() const { return dir_ / "in"; }

  SanitizeSummary run(int threads = 2, const std::string& salt = "", const fs::path& input = {}) {
    const SanitizeSummary summary = sanitize_snapshots({.input = input.empty() ? in() : input,
                                                        .output = dir_ / "out.jsonl",
                                                        .report = dir_ / "report.json",
                                                        .threads = threads,
                                                        .salt = salt});
    report_ = test::read_ordered_json(dir_ / "report.json");
    output_ = read_text_file(dir_ / "out.jsonl");
    return summary;
  }
  std::vector<std::string> ids() const {
    std::vector<std::string> result;
    std::istringstream lines(output_);
    for (std::string line; std::getline(lines, line);) {
      result.push_back(Json::parse(line)["id"]);
    }
    return result;
  }
  // "file:line verdict" of every entry.
  std::vector<std::string> entries() const {
    std::vector<std::string> result;
    for (const Json& entry : report_["files"]) {
      result.push_back(fmt::format("{}:{} {}", entry["file"].get<std::string>(),
                                   entry["line"].get<int>(), entry["verdict"].get<std::string>()));
    }
    return result;
  }

  test::TempDir dir_;
  Json report_;
  std::string output_;
};

TEST_F(Sanitize, WalksInOrderAndReportsEverySnapshot) {
  put("b.json", snapshot(1));
  put("a/z.json", snapshot(2));
  put("a/b/c.jsonl", snapshot(3) + "\n\n  \r\n" + snapshot(4) + "\r\n{\"id\":1}\n" + snapshot(5));
  put("c.json", Json::parse(snapshot(6)).dump(2));
  put("notes.txt", "not looked at");
  put("d.json", "");
  put("e.jsonl", "");
  put("f.json", snapshot(7) + "\n" + snapshot(8));
  const SanitizeSummary summary = run();
  EXPECT_THAT(entries(), testing::ElementsAre(
                             "a/b/c.jsonl:1 accept", "a/b/c.jsonl:4 accept", "a/b/c.jsonl:5 reject",
                             "a/b/c.jsonl:6 accept", "a/z.json:1 accept", "b.json:1 accept",
                             "c.json:1 accept", "d.json:1 reject", "f.json:1 reject"));
  EXPECT_THAT(ids(), testing::ElementsAre(hashed(3), hashed(4), hashed(5), hashed(2), hashed(1),
                                          hashed(6)));
  EXPECT_EQ(report_["counts"].dump(),
            R"({"accept":6,"accept-with-repair":0,"reject":3,"duplicate":0})");
  EXPECT_EQ(summary.accepted(), 6);
  EXPECT_EQ(summary.output_bytes, output_.size());
  for (const Json& entry : report_["files"]) {
    EXPECT_EQ(entry.size(), 4U);
    EXPECT_EQ(entry["reasons"].empty(), entry["verdict"] == "accept");
  }
}

TEST_F(Sanitize, FirstOfEqualIdsWins) {
  put("1.json", control_with([](Json& s) { s["id"] = "x"; }));  // a refused one claims no id
  put("2.json", snapshot(1));
  put("3.jsonl", snapshot(2) + "\n" + snapshot(1) + "\n" + snapshot(2));
  put("4.json", control_with([](Json& s) { s["id"] = "ABCDEFAB-0000-4000-8000-000000000000"; }));
  put("5.json", control_with([](Json& s) { s["id"] = "abcdefab-0000-4000-8000-000000000000"; }));
  run();
  EXPECT_THAT(entries(),
              testing::ElementsAre("1.json:1 reject", "2.json:1 accept", "3.jsonl:1 accept",
                                   "3.jsonl:2 duplicate", "3.jsonl:3 duplicate",
                                   "4.json:1 accept-with-repair", "5.json:1 duplicate"));
  EXPECT_EQ(ids().size(), 3U);
}

TEST_F(Sanitize, SaltChangesTheHashOnly) {
  put("1.json", snapshot(1));
  run();
  EXPECT_THAT(ids(), testing::ElementsAre(hashed(1)));
  run(1, "pepper");
  EXPECT_THAT(ids(), testing::ElementsAre(hashed(1, "pepper")));
  EXPECT_EQ(output_.find("pepper"), std::string::npos);
}

TEST_F(Sanitize, SameOutputForAnyNumberOfThreads) {
  std::string lines;
  for (int i = 0; i < 150; ++i) {  // several blocks
    lines += (i % 7 == 3 ? "{broken" : snapshot(i % 100)) + "\n";
  }
  put("many.jsonl", lines);
  for (int i = 90; i < 130; ++i) {
    put(fmt::format("files/{:03}.json", i), snapshot(i));
  }
  run(1);
  const std::string output = output_;
  const std::string report = report_.dump();
  EXPECT_GT(report_["counts"]["duplicate"], 0);
  EXPECT_GT(report_["counts"]["reject"], 0);
  for (const int threads : {2, 3, 8}) {
    run(threads);
    EXPECT_EQ(output_, output);
    EXPECT_EQ(report_.dump(), report);
  }
}

TEST_F(Sanitize, LinksAndUnreadableEntries) {
  put("sub/1.json", snapshot(1));
  fs::create_symlink(in() / "nowhere", in() / "broken.json");
  fs::create_directory_symlink(in(), in() / "loop");
  fs::create_directory_symlink(in(), in() / "sub" / "loop.json");
  fs::create_symlink(in() / "sub" / "1.json", in() / "z.json");
  fs::create_directory(in() / "folder.json");
  ASSERT_EQ(::mkfifo((in() / "pipe.json").c_str(), 0600), 0);
  run();
  EXPECT_THAT(entries(), testing::ElementsAre("broken.json:1 reject", "pipe.json:1 reject",
                                              "sub/1.json:1 accept", "z.json:1 duplicate"));
  EXPECT_THAT(report_["files"][0]["reasons"][0].get<std::string>(), HasSubstr("cannot be read"));
}

TEST_F(Sanitize, TooLarge) {
  const std::string large(17 << 20, ' ');
  put("1.json", snapshot(1) + large);
  put("2.jsonl", snapshot(2) + "\n" + snapshot(3) + large + "\n" + snapshot(4) + "\n" + large +
                     large + large + "\n" + snapshot(5));
  put("3.jsonl", large + snapshot(6));
  run();
  EXPECT_THAT(entries(),
              testing::ElementsAre("1.json:1 reject", "2.jsonl:1 accept", "2.jsonl:2 reject",
                                   "2.jsonl:3 accept", "2.jsonl:4 reject", "2.jsonl:5 accept",
                                   "3.jsonl:1 reject"));
}

TEST_F(Sanitize, SingleFilesAndFailures) {
  put("1.json", snapshot(1));
  put("2.jsonl", snapshot(1) + "\n" + snapshot(2) + "\n");
  EXPECT_EQ(run(2, "", in() / "1.json").accepted(), 1);
  EXPECT_EQ(run(2, "", in() / "2.jsonl").accepted(), 2);
  const std::string earlier = output_;
  put("bad/1.json", "{}");
  EXPECT_EQ(run(2, "", in() / "bad").accepted(), 0);
  EXPECT_TRUE(output_ == earlier);  // nothing accepted: the earlier output is not replaced
  EXPECT_THROW(run(2, "", in() / "absent"), InputError);

  SanitizeOptions options{.input = in() / "2.jsonl", .output = in() / "2.jsonl"};
  EXPECT_THROW(sanitize_snapshots(options), UsageError);
  options.output = "/proc/nowhere/out.jsonl";
  EXPECT_THROW(sanitize_snapshots(options), IoError);
  options.output = "/dev/full/out.jsonl";
  EXPECT_THROW(sanitize_snapshots(options), IoError);
}

// A second run into the input folder does not read the first run's output.
TEST_F(Sanitize, OwnOutputsAreNoInput) {
  put("1.json", snapshot(1));
  for (int round = 0; round < 2; ++round) {
    const SanitizeSummary summary = sanitize_snapshots(
        {.input = in(), .output = in() / "out.jsonl", .report = in() / "report.json"});
    EXPECT_EQ(summary.counts, (std::array<int64_t, 4>{1, 0, 0, 0}));
  }
}

}  // namespace
}  // namespace stemfabric
