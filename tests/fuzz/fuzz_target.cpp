#include "tests/fuzz/fuzz_target.h"

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

const fs::path& scratch_folder() {
  static const test::TempDir kFolder;
  return kFolder.path();
}

fs::path hostile_file(const std::string& extension, std::string_view bytes) {
  fs::path path = scratch_folder() / (std::string(kSource) + extension);
  test::put_file(path, bytes);
  return path;
}

std::string written(const std::string& extension,
                    const std::function<void(const fs::path&)>& write) {
  const test::TempDir folder;
  const fs::path path = folder / ("seed" + extension);
  write(path);
  return read_text_file(path);
}

}  // namespace stemfabric::fuzz
