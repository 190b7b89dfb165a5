#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "tests/integration/stemfabric.h"

namespace stemfabric::test {
namespace {

TEST(Doctor, ReportsEveryCheckAsTextAndAsJson) {
  const auto text = run_stemfabric({"doctor"});
  EXPECT_EQ(text.status, 0) << text.out << text.err;
  EXPECT_THAT(text.out, testing::EndsWith("Ready.\n"));

  const auto json = run_stemfabric({"doctor", "--json"});
  EXPECT_EQ(json.status, 0);
  const auto report = nlohmann::json::parse(json.out);
  EXPECT_EQ(report.at("ok"), true);
  std::set<std::string> names;
  for (const auto& check : report.at("checks")) {
    const auto name = check.at("name").get<std::string>();
    names.insert(name);
    EXPECT_THAT(text.out, testing::HasSubstr(name));
    EXPECT_NE(check.at("text"), "");
    if (check.at("status") != "ok" && check.at("status") != "note") {
      EXPECT_NE(check.at("advice"), "") << name;
    }
  }
  EXPECT_THAT(names,
              testing::IsSupersetOf({"cpu", "memory", "cuda", "nccl", "cudnn", "mpi", "libraries",
                                     "open files", "current folder", "temporary folder",
                                     "threads self-test", "linear self-test"}));
}

TEST(Doctor, AnUnwritableTemporaryFolderIsAWarningWithAdvice) {
  const auto result =
      run_process({"/usr/bin/env", "TMPDIR=/proc", SF_EXECUTABLE, "doctor", "--json"});
  EXPECT_EQ(result.status, 0) << result.err;  // nothing essential
  const auto report = nlohmann::json::parse(result.out);
  int found = 0;
  for (const auto& check : report.at("checks")) {
    if (check.at("name") == "temporary folder") {
      ++found;
      EXPECT_EQ(check.at("status"), "warning");
      EXPECT_NE(check.at("advice"), "");
    }
  }
  EXPECT_EQ(found, 1);
}

}  // namespace
}  // namespace stemfabric::test
