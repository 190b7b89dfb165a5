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
#include "runtime/io/file_internal.h"

namespace stemfabric {
namespace fs = std::filesystem;
using namespace io_internal;
namespace {

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

namespace io_internal {

PartialFile::PartialFile(const fs::path& target) : target_(target) {
  remove_stale_partials(target);
  do {
    partial_ = partial_path(target);
    const int fd =
        ::open(partial_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0) {
      fail("write", target, errno);
    }
    fd_ = Descriptor(fd);
  } while (!lock_partial(fd_));
}

PartialFile::~PartialFile() {
  if (!partial_.empty()) {
    ::unlink(partial_.c_str());
  }
}

void PartialFile::sync() {
  if (::fsync(fd_.get()) != 0) {
    fail("write", target_, errno);
  }
}

void PartialFile::commit() {
  sync();  // before the rename: after a power cut the name must not lead to an empty file
  // The lock is kept until the file has its name, so that nobody takes it for a stale one.
  if (::rename(partial_.c_str(), target_.c_str()) != 0) {
    fail("write", target_, errno);
  }
  partial_.clear();
  fd_ = Descriptor();
  sync_folder(folder_of(target_));
}

}  // namespace io_internal

struct AtomicFile::State {
  static constexpr std::size_t kBufferBytes = 256 * 1024;

  explicit State(const fs::path& target) : file(target) {}

  PartialFile file;
  std::string buffer;
  uint64_t written = 0;
  off_t sent = 0;     // bytes given to the system
  off_t started = 0;  // of them, those whose way to the disk has begun

  // Errors name the target: that is the file the user knows.
  void write_out(const char* data, std::size_t size) {
    while (size > 0) {
      const ssize_t done = ::write(file.fd(), data, size);
      if (done < 0) {
        if (errno == EINTR) {
          continue;
        }
        fail("write", file.target(), errno);
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
      ::sync_file_range(file.fd(), started, sent - started, SYNC_FILE_RANGE_WRITE);
      started = sent;
    }
  }
  void flush() {
    write_out(buffer.data(), buffer.size());
    buffer.clear();
  }
};

AtomicFile::AtomicFile(const fs::path& path) : state_(std::make_unique<State>(path)) {}

AtomicFile::~AtomicFile() = default;

void AtomicFile::write(std::span<const std::byte> bytes) {
  write(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

void AtomicFile::write(std::string_view text) {
  SF_CHECK(state_->file.fd() >= 0, "write after commit of {}", state_->file.target().string());
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
  SF_CHECK(state_->file.fd() >= 0, "second commit of {}", state_->file.target().string());
  state_->flush();
  state_->file.commit();
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
