// Runs a program as a user would: arguments in, exit status and both outputs out.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/paths.h"

namespace stemfabric::test {

struct ProcessResult {
  int status = -1;  // exit status, or 128 + signal
  std::string out;
  std::string err;
};

// A running program; its outputs go to files, so that it never waits for a reader.
class Process {
 public:
  // argv[0] is the program's path. An empty folder means the current one.
  explicit Process(const std::vector<std::string>& argv, const std::filesystem::path& folder = {});
  ~Process();  // kills and reaps it if it still runs
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  bool running() const;
  void signal(int number) const;
  ProcessResult wait();  // until it ends

 private:
  TempDir outputs_;
  pid_t pid_ = -1;
};

ProcessResult run_process(const std::vector<std::string>& argv,
                          const std::filesystem::path& folder = {});

}  // namespace stemfabric::test
