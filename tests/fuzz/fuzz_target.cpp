#include "tests/fuzz/fuzz_target.h"

#include <unistd.h>

#include "runtime/io/file.h"
#include "tests/support/paths.h"

namespace stemfabric::fuzz {

namespace fs = std::filesystem;

bool accepts(const FuzzTarget& target, std::string_view bytes) {
  try {
    target.read(bytes);
    return true;
  } catch (const Error& error) {
    const std::string_view message = error.what();
    SF_CHECK(error.kind() == target.refusal, "{}: refused as {}, not as {}: {}", target.name,
             error_kind_name(error.kind()), error_kind_name(target.refusal), message);
    SF_CHECK(message.find(kSource) != std::string_view::npos, "{}: names no file: {}", target.name,
             message);
    return false;
  }
}

// In memory where that is possible: the targets write thousands of files, and writers sync.
const fs::path& scratch_folder() {
  constexpr const char* kInMemory = "/dev/shm";
  static const test::TempDir kFolder(::access(kInMemory, W_OK) == 0 ? fs::path(kInMemory)
                                                                    : fs::temp_directory_path());
  return kFolder.path();
}

fs::path hostile_file(const std::string& extension, std::string_view bytes) {
  fs::path path = scratch_folder() / (std::string(kSource) + extension);
  test::put_file(path, bytes);
  return path;
}

std::string written(const std::string& extension,
                    const std::function<void(const fs::path&)>& write) {
  const fs::path path = scratch_folder() / ("seed" + extension);
  write(path);
  return read_text_file(path);
}

}  // namespace stemfabric::fuzz
