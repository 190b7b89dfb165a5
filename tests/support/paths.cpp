#include "tests/support/paths.h"

#include <cstdlib>
#include <fstream>

#include "runtime/core/check.h"

namespace stemfabric::test {

std::filesystem::path data_dir() {
  const std::filesystem::path built_with = SF_TEST_DATA_DIR;
  if (std::filesystem::exists(built_with)) {
    return built_with;
  }
  const auto program = std::filesystem::read_symlink("/proc/self/exe");
  return program.parent_path().parent_path() / "tests" / "data";
}

TempDir::TempDir() : TempDir(std::filesystem::temp_directory_path()) {}

TempDir::TempDir(const std::filesystem::path& parent) {
  std::string pattern = (parent / "stemfabric-test-XXXXXX").string();
  SF_CHECK(mkdtemp(pattern.data()) != nullptr, "mkdtemp {}", pattern);
  path_ = pattern;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void put_file(const std::filesystem::path& path, std::string_view bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  SF_CHECK(file.good(), "cannot write {}", path.string());
}

}  // namespace stemfabric::test
