// Runs the ops' tests on kernels with one mistake put into their sources (mutations.txt), and
// demands that a test notices.
//
//   kernel_mutants NAME      status 0 if the tests of that mutation fail, in whatever way
//   kernel_mutants --none    status 0 if the tests of all mutations pass without any
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <new>
#include <set>
#include <string>
#include <string_view>

#include "tests/simt/mutation/mutant.h"

namespace stemfabric::test {
namespace {

struct Mutation {
  std::string_view name, file, text, becomes, tests, error;
  int line;
};
constexpr auto kMutations = std::to_array<Mutation>({
#include <mutations.inc>  // of mutations.txt, by make_mutants.py
});

// What the process that runs the tests tells the one that waits for it.
struct Report {
  bool reached = false;
  int tests = 0;
  std::array<char, 600> failure{};
};
Report* report = nullptr;

constexpr int kNoticed = 3;  // exit status

// The first failure is enough.
class StopAtFailure : public testing::EmptyTestEventListener {
  void OnTestStart(const testing::TestInfo& test) override {
    test_ = fmt::format("{}.{}", test.test_suite_name(), test.name());
  }
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) {
      return;
    }
    const std::string what = fmt::format("{}: {}", test_, result.summary());
    what.copy(report->failure.data(), report->failure.size() - 1);
    _exit(kNoticed);
  }
  std::string test_;  // asking for the running one waits for the lock that the caller holds
};

int run_tests(std::string_view filter) {
  GTEST_FLAG_SET(filter, std::string(filter));
  const int status = RUN_ALL_TESTS();
  report->tests = testing::UnitTest::GetInstance()->test_to_run_count();
  return status;
}

// Every mutation's tests, on the sources as they are.
int run_without() {
  std::set<std::string_view> filters;
  for (const Mutation& mutation : kMutations) {
    filters.insert(mutation.tests);
  }
  std::string all;
  for (const std::string_view filter : filters) {
    all += fmt::format("{}{}", all.empty() ? "" : ":", filter);
  }
  const int status = run_tests(all);
  if (report->tests == 0) {
    fmt::print("no test is called {}\n", all);
    return 1;
  }
  return status;
}

int judge(const Mutation& mutation, int status) {
  if (WIFSIGNALED(status)) {
    fmt::print("noticed: the tests ended with signal {}\n", WTERMSIG(status));
    return 0;
  }
  if (WEXITSTATUS(status) == kNoticed) {
    fmt::print("noticed by {}\n", report->failure.data());
    return 0;
  }
  if (WEXITSTATUS(status) != 0) {
    fmt::print("noticed: the tests ended with status {}\n", WEXITSTATUS(status));
    return 0;
  }
  if (report->tests == 0) {
    fmt::print("no test is called {}\n", mutation.tests);
  } else if (!report->reached) {
    fmt::print("none of {} tests ({}) comes to this place\n", report->tests, mutation.tests);
  } else {
    fmt::print("{} tests ({}) come to this place and pass all the same\n", report->tests,
               mutation.tests);
  }
  return 1;
}

int run_mutation(const Mutation& mutation) {
  if (!mutation.error.empty()) {
    fmt::print("tests/simt/mutation/mutations.txt: {} cannot be made: {}\n", mutation.name,
               mutation.error);
    return 1;
  }
  fmt::print("{}:{}: {}\n  becomes {}\n", mutation.file, mutation.line, mutation.text,
             mutation.becomes.empty() ? "nothing" : mutation.becomes);
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child < 0) {
    fmt::print("fork failed\n");
    return 1;
  }
  if (child == 0) {
    chosen_mutation = static_cast<int>(&mutation - kMutations.data());
    auto& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new StopAtFailure);
    if (std::freopen("/dev/null", "w", stdout) == nullptr) {  // what the tests tell of themselves
      _exit(1);
    }
    _exit(run_tests(mutation.tests));
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
  }
  return judge(mutation, status);
}

int run(std::string_view name) {
  void* shared =
      mmap(nullptr, sizeof(Report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) {
    fmt::print("mmap failed\n");
    return 1;
  }
  report = new (shared) Report;
  if (name == "--none") {
    return run_without();
  }
  const auto* found = std::ranges::find(kMutations, name, &Mutation::name);
  if (found == kMutations.end()) {
    fmt::print("usage: kernel_mutants --none | NAME of tests/simt/mutation/mutations.txt\n");
    return 2;
  }
  return run_mutation(*found);
}

}  // namespace

int chosen_mutation = kNoMutation;
void mutation_is_reached() { report->reached = true; }

}  // namespace stemfabric::test

int main(int argc, char** argv) {
  testing::InitGoogleMock(&argc, argv);
  return stemfabric::test::run(argc == 2 ? argv[1] : "");
}
