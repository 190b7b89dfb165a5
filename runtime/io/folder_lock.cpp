#include "runtime/io/folder_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <system_error>

#include "runtime/core/check.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;

fs::path lock_file(const fs::path& folder) { return folder / ".lock"; }

std::string holder_of(int file) {
  std::array<char, 32> text{};
  const ssize_t size = ::pread(file, text.data(), text.size() - 1, 0);
  std::string pid(text.data(), size > 0 ? static_cast<std::size_t>(size) : 0);
  pid.erase(pid.find_last_not_of("\n ") + 1);
  return pid.empty() ? "" : " (process " + pid + ")";
}

}  // namespace

FolderLock::FolderLock(const fs::path& folder, std::string_view user, std::string_view option)
    : file_(::open(lock_file(folder).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
  if (file_.get() < 0) {
    io_internal::fail("write", lock_file(folder), errno);
  }
  if (::flock(file_.get(), LOCK_EX | LOCK_NB) != 0) {
    const int reason = errno;
    if (reason == EWOULDBLOCK) {
      throw IoError("{}: another {}{} is using this folder; wait for it or choose another {}",
                    folder.string(), user, holder_of(file_.get()), option);
    }
    throw IoError("cannot lock {}: {}; choose a folder on a file system with locks",
                  lock_file(folder).string(), std::generic_category().message(reason));
  }
  const std::string pid = std::to_string(::getpid()) + "\n";
  if (::ftruncate(file_.get(), 0) != 0 ||
      ::pwrite(file_.get(), pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    io_internal::fail("write", lock_file(folder), errno);
  }
}

bool FolderLock::held(const fs::path& folder) {
  const io_internal::Descriptor file(::open(lock_file(folder).c_str(), O_RDONLY | O_CLOEXEC));
  return file.get() >= 0 && ::flock(file.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

}  // namespace stemfabric
