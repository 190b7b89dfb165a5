#include "trainer/training/run_directory.h"

#include <array>
#include <string>
#include <vector>

#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "runtime/io/file.h"
#include "trainer/training/checkpoint.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;

// Everything a run writes at the top of its folder.
constexpr std::array kRunEntries = {"checkpoints",           "config.yaml",
                                    "metrics.jsonl",         "epochs.jsonl",
                                    "tensorboard",           "final_model.safetensors",
                                    "final_model.h5",        "training_history.json",
                                    "training_summary.json", "report.html"};

}  // namespace

RunDirectory::RunDirectory(const fs::path& root) : root_(root) {
  make_directories(checkpoints());
  lock_.emplace(root_, "trainer", "--output-dir");
  remove_partial_files(root_);
  remove_partial_files(checkpoints());
}

void RunDirectory::remove_partial_files(const fs::path& folder) {
  for (const fs::path& path : remove_stale_partials_in(folder)) {
    log_info("removed {}: left half-written by an earlier run", path.string());
  }
}

fs::path RunDirectory::set_aside_earlier_run() {
  std::vector<fs::path> entries;
  for (const char* name : kRunEntries) {
    const fs::path path = root_ / name;
    if (fs::exists(path) && !(fs::is_directory(path) && fs::is_empty(path))) {
      entries.push_back(path);
    }
  }
  if (entries.empty()) {
    return {};
  }
  const fs::path target = new_aside_folder();
  for (const fs::path& path : entries) {
    fs::rename(path, target / path.filename());
  }
  make_directories(checkpoints());
  return target;
}

fs::path RunDirectory::new_aside_folder() const {
  int number = 1;
  while (fs::exists(root_ / ("previous-" + std::to_string(number)))) {
    ++number;
  }
  const fs::path target = root_ / ("previous-" + std::to_string(number));
  make_directories(target);
  return target;
}

void RunDirectory::set_aside_checkpoints_after(int64_t step) {
  fs::path target;
  for (const fs::path& path : list_checkpoints(checkpoints())) {
    if (checkpoint_step(path) <= step) {
      continue;
    }
    if (target.empty()) {
      target = new_aside_folder();
    }
    log_info("moving {} to {}", path.string(), target.string());
    fs::rename(path, target / path.filename());
  }
}

}  // namespace stemfabric
