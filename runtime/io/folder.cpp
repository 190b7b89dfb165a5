// The part of file.h that is about folders, and the rules for what is not whole yet.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <map>
#include <mutex>
#include <string>
#include <system_error>
#include <vector>

#include "runtime/core/check.h"
#include "runtime/io/file.h"
#include "runtime/io/file_internal.h"

namespace stemfabric {
namespace fs = std::filesystem;

namespace io_internal {
namespace {

// What the user can do about the usual reasons.
const char* advice(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
      return "; free space there or choose another folder";
    case EACCES:
    case EPERM:
      return "; check the permissions or choose another folder";
    case EROFS:
      return "; choose a folder that can be written";
    case ENOENT:
    case ENOTDIR:
      return "; check the path";
    case EISDIR:
      return "; give the path of a file";
    case EFBIG:
      return "; raise the file size limit (ulimit -f)";
    case EMFILE:
    case ENFILE:
      return "; raise the limit of open files (ulimit -n)";
    default:
      return "";
  }
}

// "x.npy.partial-812-0": digits, a dash, digits behind the mark.
bool is_partial_name(const std::string& name, const std::string& mark) {
  if (!name.starts_with(mark)) {
    return false;
  }
  const std::string tail = name.substr(mark.size());
  const std::size_t dash = tail.find('-');
  const auto digits = [](const std::string& text) {
    return !text.empty() &&
           std::ranges::all_of(text, [](unsigned char c) { return std::isdigit(c) != 0; });
  };
  return dash != std::string::npos && digits(tail.substr(0, dash)) && digits(tail.substr(dash + 1));
}

// Everything with such a name in a folder, listed once in the life of this process: what comes
// later belongs to somebody who is alive or will be looked for by a later process.
std::vector<fs::path> partials_at_first_sight(const fs::path& folder) {
  static std::mutex mutex;
  static std::map<fs::path, std::vector<fs::path>> seen;
  const std::lock_guard lock(mutex);
  const auto [entry, fresh] = seen.try_emplace(folder);
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; fresh && !error && it != end;
       it.increment(error)) {
    if (it->path().filename().string().find(".partial-") != std::string::npos) {
      entry->second.push_back(it->path());
    }
  }
  return entry->second;
}

}  // namespace

[[noreturn]] void fail(const char* verb, const fs::path& path, int error) {
  throw IoError("cannot {} {}: {}{}", verb, path.string(), std::generic_category().message(error),
                advice(error));
}

Descriptor open_for_reading(const fs::path& path, int extra_flags) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | extra_flags);
  if (fd < 0) {
    fail("read", path, errno);
  }
  return Descriptor(fd);
}

void sync_folder(const fs::path& folder) {
  const Descriptor fd = open_for_reading(folder, O_DIRECTORY);
  // Some file systems cannot sync a folder; there is nothing better to do on those.
  if (::fsync(fd.get()) != 0 && errno != EINVAL && errno != ENOTSUP) {
    fail("sync folder", folder, errno);
  }
}

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

// `<name>.partial-<pid>-<n>` beside the target.
fs::path partial_path(const fs::path& target) {
  static std::atomic<uint64_t> counter{0};
  fs::path partial = target;
  partial += fmt::format(".partial-{}-{}", ::getpid(), counter.fetch_add(1));
  return partial;
}

bool lock_partial(const Descriptor& partial) {
  // A file system without locks has no stale files removed either.
  while (::flock(partial.get(), LOCK_EX) != 0 && errno == EINTR) {
  }
  struct stat info {};
  return ::fstat(partial.get(), &info) != 0 || info.st_nlink > 0;
}

namespace {
// Unless somebody holds it; true if it is gone.
bool remove_if_stale(const fs::path& path) {
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (fd.get() < 0 || ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    return false;
  }
  std::error_code error;  // it is in nobody's way
  fs::remove_all(path, error);
  return !error;
}
}  // namespace

void remove_stale_partials(const fs::path& target) {
  const std::string mark = target.filename().string() + ".partial-";
  for (const fs::path& path : partials_at_first_sight(folder_of(target))) {
    if (is_partial_name(path.filename().string(), mark)) {
      remove_if_stale(path);
    }
  }
}

}  // namespace io_internal

std::vector<fs::path> remove_stale_partials_in(const fs::path& folder) {
  std::vector<fs::path> candidates;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const std::size_t mark = name.rfind(".partial-");
    if (mark != std::string::npos && mark > 0 &&
        io_internal::is_partial_name(name.substr(mark), ".partial-")) {
      candidates.push_back(entry.path());
    }
  }
  std::erase_if(candidates,
                [](const fs::path& path) { return !io_internal::remove_if_stale(path); });
  return candidates;
}

using namespace io_internal;
namespace {

// "a/b/" names the same folder as "a/b"; without its slash it has a file name.
fs::path without_trailing_slash(const fs::path& path) {
  return path.has_filename() || !path.has_relative_path() ? path : path.parent_path();
}

// fsync of every file and folder below `root`, and of `root`.
void sync_tree(const fs::path& root) {
  std::error_code error;
  for (fs::recursive_directory_iterator it(root, error), end; !error && it != end;
       it.increment(error)) {
    if (it->is_directory(error)) {
      sync_folder(it->path());
    } else if (it->is_regular_file(error)) {
      const Descriptor fd = open_for_reading(it->path());
      if (::fsync(fd.get()) != 0) {
        fail("write", it->path(), errno);
      }
    }
  }
  if (error) {
    fail("read folder", root, error.value());
  }
  sync_folder(root);
}

// rename() that never replaces anything, where the file system can do that.
void rename_new(const fs::path& from, const fs::path& to) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) {
    return;
  }
  if (errno != EINVAL && errno != ENOSYS) {
    fail("create folder", to, errno);
  }
  if (::rename(from.c_str(), to.c_str()) != 0) {
    fail("create folder", to, errno);
  }
}

// A new folder under a partial name, held by this process.
struct PartialFolder {
  explicit PartialFolder(const fs::path& target) {
    remove_stale_partials(target);
    do {
      path = partial_path(target);
      if (::mkdir(path.c_str(), 0777) != 0) {
        fail("create folder", target, errno);
      }
      held = Descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECTORY));
      if (held.get() < 0 && errno != ENOENT) {  // ENOENT: somebody took it for a stale one
        fail("create folder", target, errno);
      }
    } while (held.get() < 0 || !lock_partial(held));
  }
  // Whatever has that name in the end: the new folder if something failed, the old one if all went
  // well, or nothing.
  ~PartialFolder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  PartialFolder(const PartialFolder&) = delete;
  PartialFolder& operator=(const PartialFolder&) = delete;

  fs::path path;
  Descriptor held;
};

// Two folders change names in one step, so that at no moment the target is missing.
void exchange(const fs::path& fresh, const fs::path& target) {
  if (::renameat2(AT_FDCWD, fresh.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE) == 0) {
    return;
  }
  if (errno != EINVAL && errno != ENOSYS) {
    fail("replace folder", target, errno);
  }
  // A file system without that call: for a moment there is only the old one under this name.
  fs::path old = target;
  old += ".replaced";
  std::error_code ignored;
  fs::remove_all(old, ignored);
  if (::rename(target.c_str(), old.c_str()) != 0) {
    fail("replace folder", target, errno);
  }
  if (::rename(fresh.c_str(), target.c_str()) != 0) {
    const int reason = errno;
    ::rename(old.c_str(), target.c_str());
    fail("replace folder", target, reason);
  }
  fs::remove_all(old, ignored);
}

}  // namespace

void create_directory_atomically(const fs::path& target_path,
                                 const std::function<void(const fs::path&)>& fill) {
  const fs::path target = without_trailing_slash(target_path);
  struct stat info {};
  if (::lstat(target.c_str(), &info) == 0) {
    throw IoError("cannot create folder {}: it exists already", target.string());
  }
  const PartialFolder partial(target);
  fill(partial.path);
  sync_tree(partial.path);
  rename_new(partial.path, target);
  sync_folder(folder_of(target));
}

void replace_directory_atomically(const fs::path& target_path,
                                  const std::function<void(const fs::path&)>& fill) {
  const fs::path target = without_trailing_slash(target_path);
  struct stat info {};
  if (::lstat(target.c_str(), &info) != 0) {
    create_directory_atomically(target, fill);
    return;
  }
  if (!S_ISDIR(info.st_mode)) {
    throw IoError("cannot replace {}: it is not a folder", target.string());
  }
  const PartialFolder partial(target);
  fill(partial.path);
  sync_tree(partial.path);
  exchange(partial.path, target);
  sync_folder(folder_of(target));
}

void make_directories(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (!error && !fs::is_directory(path, error) && !error) {
    error = std::make_error_code(std::errc::not_a_directory);
  }
  if (error) {
    fail("create folder", path, error.value());
  }
}

}  // namespace stemfabric
