#include "trainer/data/dataset_target.h"

#include <simdjson.h>

#include <algorithm>

#include "runtime/core/check.h"
#include "runtime/io/file.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;

// What a data set folder may hold. Anything else is never deleted.
bool belongs_to_dataset(const std::string& name) {
  return name == "train" || name == "validation" || name == "test" || name == "manifest.json";
}

// True if there is something to replace.
bool check_target(const fs::path& target, bool overwrite) {
  if (!fs::exists(fs::symlink_status(target))) {
    return false;
  }
  if (!fs::is_directory(target)) {
    throw UsageError("{}: is there and is not a folder", target.string());
  }
  for (const fs::directory_entry& entry : fs::directory_iterator(target)) {
    if (!overwrite) {
      throw UsageError("{}: is not empty; give another --run-label, or --overwrite to replace it",
                       target.string());
    }
    if (!belongs_to_dataset(entry.path().filename().string())) {
      throw UsageError("{}: holds {}, which is no part of a data set, and is not replaced",
                       target.string(), entry.path().filename().string());
    }
  }
  return true;
}

}  // namespace

void check_run_label(const std::string& label) {
  if (label.empty() || label == "." || label == ".." || label.size() > 200 ||
      label.find('/') != std::string::npos || label.find('\0') != std::string::npos) {
    throw UsageError("the run label must be a plain folder name of 1 to 200 characters");
  }
  // The manifest holds it as JSON.
  const bool printable =
      std::ranges::none_of(label, [](unsigned char c) { return c < 0x20 || c == 0x7f; });
  if (!printable || !simdjson::validate_utf8(label)) {
    throw UsageError("the run label must be text in UTF-8 without control characters");
  }
}

fs::path write_dataset_folder(const fs::path& output_dir, const std::string& run_label,
                              bool overwrite, const std::function<void(const fs::path&)>& fill) {
  check_run_label(run_label);
  make_directories(output_dir);
  const fs::path target = output_dir / run_label;
  if (check_target(target, overwrite)) {
    replace_directory_atomically(target, fill);
  } else {
    create_directory_atomically(target, fill);
  }
  return target;
}

}  // namespace stemfabric
