#include "tests/support/paths.h"

#include <cstdlib>

#include "runtime/core/check.h"

namespace stemfabric::test {

TempDir::TempDir() {
  std::string pattern =
      (std::filesystem::temp_directory_path() / "stemfabric-test-XXXXXX").string();
  SF_CHECK(mkdtemp(pattern.data()) != nullptr, "mkdtemp {}", pattern);
  path_ = pattern;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace stemfabric::test
