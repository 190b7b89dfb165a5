// The built executable under test.
#pragma once

#include <string>
#include <vector>

#include "tests/support/process.h"

namespace stemfabric::test {

inline std::filesystem::path source_dir() { return SF_SOURCE_DIR; }

// argv of `stemfabric <args>`, for Process.
inline std::vector<std::string> stemfabric_argv(std::vector<std::string> args) {
  args.insert(args.begin(), SF_EXECUTABLE);
  return args;
}

// Runs `stemfabric <args>` in `folder` (default: the current one) and waits.
inline ProcessResult run_stemfabric(const std::vector<std::string>& args,
                                    const std::filesystem::path& folder = {}) {
  return run_process(stemfabric_argv(args), folder);
}

}  // namespace stemfabric::test
