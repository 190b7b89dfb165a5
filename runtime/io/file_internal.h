// What the sources of runtime/io share that write files and folders; nobody else includes this.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <utility>

namespace stemfabric::io_internal {

// IoError with the system's reason and what can be done about it.
[[noreturn]] void fail(const char* verb, const std::filesystem::path& path, int error);

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

 private:
  int fd_ = -1;
};

Descriptor open_for_reading(const std::filesystem::path& path, int extra_flags = 0);
void sync_folder(const std::filesystem::path& folder);
std::filesystem::path folder_of(const std::filesystem::path& path);

// `<name>.partial-<pid>-<n>` beside the target: a file or folder that is not whole yet. Its writer
// holds a lock on it, so that what no living process writes can be told and removed.
std::filesystem::path partial_path(const std::filesystem::path& target);
// False if somebody took it for a stale one and removed it in the moment before: make another.
bool lock_partial(const Descriptor& partial);
// Partial files and folders of this target that were there before this process first looked into
// its folder, and that nobody holds.
void remove_stale_partials(const std::filesystem::path& target);

// A new file under a partial name, held by this process: the half of AtomicFile that knows nothing
// of buffers, for libraries that write to a descriptor themselves.
class PartialFile {
 public:
  explicit PartialFile(const std::filesystem::path& target);
  ~PartialFile();  // removes what was not committed
  PartialFile(const PartialFile&) = delete;
  PartialFile& operator=(const PartialFile&) = delete;

  const std::filesystem::path& target() const { return target_; }
  int fd() const { return fd_.get(); }  // -1 after commit()
  void sync();                          // fsync: what was written is on the disk
  void commit();                        // sync(), then its name

 private:
  std::filesystem::path target_;
  std::filesystem::path partial_;
  Descriptor fd_;  // its lock says that somebody is still writing
};

}  // namespace stemfabric::io_internal
