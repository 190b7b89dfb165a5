#include "runtime/io/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <system_error>
#include <utility>
#include <vector>

#include "runtime/core/check.h"

namespace stemfabric {
namespace fs = std::filesystem;
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

[[noreturn]] void fail(const char* verb, const fs::path& path, int error) {
  throw IoError("cannot {} {}: {}{}", verb, path.string(), std::generic_category().message(error),
                advice(error));
}

// A file descriptor that closes itself.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) {
      ::close(fd_);
    }
  }
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

Descriptor open_for_reading(const fs::path& path, int extra_flags = 0) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | extra_flags);
  if (fd < 0) {
    fail("read", path, errno);
  }
  return Descriptor(fd);
}

// One read(); repeats if a signal interrupts it.
std::size_t read_some(int fd, char* to, std::size_t size, const fs::path& path) {
  for (;;) {
    const ssize_t got = ::read(fd, to, size);
    if (got >= 0) {
      return static_cast<std::size_t>(got);
    }
    if (errno != EINTR) {
      fail("read", path, errno);
    }
  }
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

}  // namespace

// ---- MappedFile

MappedFile::MappedFile(const fs::path& path) : path_(path) {
  // O_NONBLOCK: a pipe given by mistake must be refused, not waited for.
  const Descriptor fd = open_for_reading(path, O_NONBLOCK);
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) {
    fail("read", path, errno);
  }
  if (!S_ISREG(info.st_mode)) {
    throw IoError("cannot read {}: it is {}, not a file", path.string(),
                  S_ISDIR(info.st_mode) ? "a folder" : "a device or pipe");
  }
  const auto size = static_cast<std::size_t>(info.st_size);
  if (size == 0) {
    return;
  }
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (data == MAP_FAILED) {
    fail("map", path, errno);
  }
  bytes_ = {static_cast<const std::byte*>(data), size};
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) {
    ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
  }
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

// ---- AtomicFile

struct AtomicFile::State {
  static constexpr std::size_t kBufferBytes = 256 * 1024;

  fs::path target;
  fs::path partial;
  Descriptor fd;
  std::string buffer;
  uint64_t written = 0;
  off_t sent = 0;     // bytes given to the system
  off_t started = 0;  // of them, those whose way to the disk has begun

  // Errors name the target: that is the file the user knows.
  void write_out(const char* data, std::size_t size) {
    while (size > 0) {
      const ssize_t done = ::write(fd.get(), data, size);
      if (done < 0) {
        if (errno == EINTR) {
          continue;
        }
        fail("write", target, errno);
      }
      data += done;
      size -= static_cast<std::size_t>(done);
      sent += done;
    }
    start_writeback();
  }
  // Large files start on their way to the disk while they are written, so that the fsync of
  // commit() finds little left to wait for. Only a hint: errors show in fsync.
  void start_writeback() {
    constexpr off_t kStep = 8 << 20;
    if (sent - started >= kStep) {
      ::sync_file_range(fd.get(), started, sent - started, SYNC_FILE_RANGE_WRITE);
      started = sent;
    }
  }
  void flush() {
    write_out(buffer.data(), buffer.size());
    buffer.clear();
  }
};

AtomicFile::AtomicFile(const fs::path& path) : state_(std::make_unique<State>()) {
  state_->target = path;
  state_->partial = partial_path(path);
  const int fd =
      ::open(state_->partial.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
  if (fd < 0) {
    fail("write", path, errno);
  }
  state_->fd = Descriptor(fd);
}

AtomicFile::~AtomicFile() {
  if (!state_->partial.empty()) {
    ::unlink(state_->partial.c_str());
  }
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  write(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

void AtomicFile::write(std::string_view text) {
  SF_CHECK(state_->fd.get() >= 0, "write after commit of {}", state_->target.string());
  if (state_->buffer.size() + text.size() > State::kBufferBytes) {
    state_->flush();
  }
  if (text.size() >= State::kBufferBytes) {
    state_->write_out(text.data(), text.size());
  } else {
    state_->buffer.append(text);
  }
  state_->written += text.size();
}

uint64_t AtomicFile::written() const { return state_->written; }

void AtomicFile::commit() {
  SF_CHECK(state_->fd.get() >= 0, "second commit of {}", state_->target.string());
  state_->flush();
  // fsync before rename: after a power cut the name must not lead to an empty file.
  if (::fsync(state_->fd.get()) != 0) {
    fail("write", state_->target, errno);
  }
  if (::close(state_->fd.release()) != 0) {
    fail("write", state_->target, errno);
  }
  if (::rename(state_->partial.c_str(), state_->target.c_str()) != 0) {
    fail("write", state_->target, errno);
  }
  state_->partial.clear();
  sync_folder(folder_of(state_->target));
}

// ---- whole files and folders

std::string read_text_file(const fs::path& path, uint64_t max_bytes) {
  const Descriptor fd = open_for_reading(path);
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) {
    fail("read", path, errno);
  }
  const auto too_large = [&](const std::string& size) {
    throw IoError("cannot read {}: it holds {} bytes; at most {} are accepted here", path.string(),
                  size, max_bytes);
  };
  if (S_ISREG(info.st_mode) && static_cast<uint64_t>(info.st_size) > max_bytes) {
    too_large(std::to_string(info.st_size));
  }
  std::string text;
  std::size_t used = 0;
  text.resize(S_ISREG(info.st_mode) ? static_cast<std::size_t>(info.st_size) + 1 : 64 * 1024);
  for (;;) {
    const std::size_t got = read_some(fd.get(), text.data() + used, text.size() - used, path);
    if (got == 0) {
      break;
    }
    used += got;
    if (used > max_bytes) {
      too_large("more than " + std::to_string(max_bytes));
    }
    if (used == text.size()) {
      text.resize(text.size() * 2);
    }
  }
  text.resize(used);
  return text;
}

void write_text_file(const fs::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

void create_directory_atomically(const fs::path& target_path,
                                 const std::function<void(const fs::path&)>& fill) {
  const fs::path target = without_trailing_slash(target_path);
  struct stat info {};
  if (::lstat(target.c_str(), &info) == 0) {
    throw IoError("cannot create folder {}: it exists already", target.string());
  }
  const fs::path partial = partial_path(target);
  if (::mkdir(partial.c_str(), 0777) != 0) {
    fail("create folder", target, errno);
  }
  try {
    fill(partial);
    sync_tree(partial);
    rename_new(partial, target);
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(partial, ignored);
    throw;
  }
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

std::string sha256_file(const fs::path& path) {
  const Descriptor fd = open_for_reading(path);
  Sha256 hash;
  std::vector<char> chunk(1 << 20);
  while (const std::size_t got = read_some(fd.get(), chunk.data(), chunk.size(), path)) {
    hash.update(std::string_view(chunk.data(), got));
  }
  return hash.hex();
}

}  // namespace stemfabric
