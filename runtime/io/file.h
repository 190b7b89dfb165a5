// Files: reading, atomic replacement, hashes. Every error is an IoError with the path and the
// system's reason.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace stemfabric {

// A read-only memory map of a whole file (an empty file maps to an empty span).
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  std::span<const std::byte> bytes() const { return bytes_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  std::span<const std::byte> bytes_;
};

// Writes beside the target (`<name>.partial-<pid>-<n>`), then fsync and rename in commit(): readers
// see the old file or the whole new one. Without commit() the partial file is removed. What a
// killed process left behind is removed by the next one that writes the same target.
class AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& path);  // the folder must exist
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  uint64_t written() const;
  void commit();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The whole file; refuses files larger than max_bytes before reading them.
std::string read_text_file(const std::filesystem::path& path, uint64_t max_bytes = 1ULL << 30);
void write_text_file(const std::filesystem::path& path, std::string_view text);  // atomic

// Fills a folder beside the target with `fill(temporary)`, fsyncs what is in it and renames it to
// `target`, which must not exist. On any error the temporary folder is removed.
void create_directory_atomically(const std::filesystem::path& target,
                                 const std::function<void(const std::filesystem::path&)>& fill);

// The same in the place of a folder, if there is one: the two change names in one step, then the
// old one is removed. On a file system that cannot do this, a kill between two renames leaves the
// old folder as `<target>.replaced`.
void replace_directory_atomically(const std::filesystem::path& target,
                                  const std::function<void(const std::filesystem::path&)>& fill);

// mkdir -p with an IoError that names the path and the reason. (Not create_directories: argument
// lookup would find the one of std::filesystem too.)
void make_directories(const std::filesystem::path& path);

// SHA-256 as 64 lower-case hex digits.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  void update(std::span<const std::byte> bytes);
  void update(std::string_view text);
  std::string hex();  // ends the hash

 private:
  struct State;
  std::unique_ptr<State> state_;
};
std::string sha256_hex(std::string_view text);
std::string sha256_file(const std::filesystem::path& path);

// Removes every partial file and folder in `folder`, of any target, that no living process holds;
// returns which.
std::vector<std::filesystem::path> remove_stale_partials_in(const std::filesystem::path& folder);

}  // namespace stemfabric
