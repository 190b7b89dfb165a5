#include "trainer/training/run_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
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

std::string holder_of(int file) {
  std::array<char, 32> text{};
  const ssize_t size = ::pread(file, text.data(), text.size() - 1, 0);
  std::string pid(text.data(), size > 0 ? static_cast<std::size_t>(size) : 0);
  pid.erase(pid.find_last_not_of("\n ") + 1);
  return pid.empty() ? "" : " (process " + pid + ")";
}

}  // namespace

RunDirectory::RunDirectory(const fs::path& root) : root_(root) {
  make_directories(checkpoints());
  lock();
  remove_partial_files(root_);
  remove_partial_files(checkpoints());
}

RunDirectory::~RunDirectory() {
  if (lock_ >= 0) {
    ::close(lock_);  // releases the lock
  }
}

bool RunDirectory::in_use(const fs::path& root) {
  const int file = ::open((root / ".lock").c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    return false;
  }
  const bool locked = ::flock(file, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  ::close(file);
  return locked;
}

void RunDirectory::lock() {
  const fs::path path = root_ / ".lock";
  lock_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (lock_ < 0) {
    throw IoError("{}: cannot create the lock of the run folder: {}", path.string(),
                  std::strerror(errno));
  }
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    const int reason = errno;
    const std::string holder = reason == EWOULDBLOCK ? holder_of(lock_) : "";
    ::close(lock_);
    lock_ = -1;
    if (reason == EWOULDBLOCK) {
      throw IoError(
          "{}: another trainer{} is using this run folder; wait for it or choose another "
          "--output-dir",
          root_.string(), holder);
    }
    throw IoError("{}: cannot lock the run folder: {}", path.string(), std::strerror(reason));
  }
  const std::string pid = std::to_string(::getpid()) + "\n";
  if (::ftruncate(lock_, 0) != 0 ||
      ::pwrite(lock_, pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    throw IoError("{}: cannot write to it: {}", path.string(), std::strerror(errno));
  }
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
