#include "trainer/snapshot/input_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "runtime/core/check.h"
#include "trainer/snapshot/snapshot_parser.h"

namespace stemfabric {

namespace fs = std::filesystem;

// --- InputWalker ---------------------------------------------------------------------------------

struct InputWalker::State {
  // What the listing of the folder says of an entry, without following links.
  struct Entry {
    std::string name;
    fs::file_type type = fs::file_type::none;
    bool operator<(const Entry& other) const { return name < other.name; }
  };
  struct Folder {
    fs::path path;
    std::string name;  // relative to the root, with a slash behind it
    std::vector<Entry> entries;
    std::size_t at = 0;
  };
  std::vector<Folder> open;
  std::vector<fs::path> skip;
  InputFile single;
  bool has_single = false;

  // Opens a folder; if that fails, `file` tells why.
  bool enter(const fs::path& path, const std::string& name, InputFile& file) {
    Folder folder{path, name, {}, 0};
    std::error_code error;
    for (fs::directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
      std::error_code unknown;
      folder.entries.push_back(
          {it->path().filename().string(), it->symlink_status(unknown).type()});
    }
    if (error) {
      file = {path, name.empty() ? path.string() : name, error.message(), false};
      return false;
    }
    std::sort(folder.entries.begin(), folder.entries.end());
    open.push_back(std::move(folder));
    return true;
  }

  bool skipped(const fs::path& path) const {
    std::error_code ignored;
    return std::any_of(skip.begin(), skip.end(), [&](const fs::path& own) {
      return path.filename() == own.filename() && fs::equivalent(path, own, ignored);
    });
  }
};

InputWalker::InputWalker(const fs::path& root, std::vector<fs::path> skip)
    : state_(std::make_unique<State>()) {
  std::error_code error;
  const fs::file_status status = fs::status(root, error);
  if (!fs::exists(status)) {
    throw InputError("{}: no such file or folder; give a folder of snapshots or one file",
                     root.string());
  }
  state_->skip = std::move(skip);
  if (fs::is_directory(status)) {
    InputFile failed;
    if (!state_->enter(root, "", failed)) {
      throw InputError("{}: cannot be read ({})", root.string(), failed.error);
    }
  } else {
    state_->has_single = true;
    state_->single = {root, root.string(), "", root.extension() == ".jsonl"};
  }
}

InputWalker::~InputWalker() = default;

bool InputWalker::next(InputFile& file) {
  State& s = *state_;
  if (s.has_single) {
    s.has_single = false;
    file = s.single;
    return true;
  }
  while (!s.open.empty()) {
    State::Folder& folder = s.open.back();
    if (folder.at == folder.entries.size()) {
      s.open.pop_back();
      continue;
    }
    const State::Entry entry = folder.entries[folder.at++];
    const fs::path path = folder.path / entry.name;
    const std::string name = folder.name + entry.name;
    if (entry.type == fs::file_type::directory) {
      if (!s.enter(path, name + "/", file)) {  // invalidates `folder`
        return true;
      }
      continue;
    }
    const bool lines = entry.name.ends_with(".jsonl");
    if (!lines && !entry.name.ends_with(".json")) {
      continue;
    }
    std::error_code error;
    fs::file_status status(entry.type);
    if (entry.type != fs::file_type::regular) {
      status = fs::status(path, error);  // follows links
    }
    if (fs::is_directory(status) || s.skipped(path)) {
      continue;
    }
    file = {path, name, "", lines};
    if (!fs::exists(status)) {
      file.error = error ? error.message() : "broken link";
    } else if (!fs::is_regular_file(status)) {
      file.error = "not a regular file";
    }
    return true;
  }
  return false;
}

// --- PaddedText, ByteReader ----------------------------------------------------------------------

void PaddedText::resize(std::size_t size) {
  if (bytes_.size() < size + kJsonPadding) {
    bytes_.resize(std::max(size + kJsonPadding, bytes_.size() + bytes_.size() / 2));
  }
  size_ = size;
  std::memset(bytes_.data() + size, 0, kJsonPadding);
}

void PaddedText::trim(std::size_t keep) {
  if (bytes_.size() > keep) {
    bytes_ = {};
    resize(0);
  }
}

ByteReader::ByteReader(const fs::path& path) : path_(path.string()) {
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor_ < 0) {
    throw IoError("{}: cannot be opened ({})", path_, std::strerror(errno));
  }
  ::posix_fadvise(descriptor_, 0, 0, POSIX_FADV_SEQUENTIAL);
}

ByteReader::~ByteReader() { ::close(descriptor_); }

std::optional<uint64_t> ByteReader::file_size() const {
  struct stat info {};
  if (::fstat(descriptor_, &info) != 0 || !S_ISREG(info.st_mode)) {
    return std::nullopt;
  }
  return static_cast<uint64_t>(info.st_size);
}

std::size_t ByteReader::read(char* target, std::size_t bytes) {
  std::size_t done = 0;
  while (done < bytes) {
    const ssize_t got = ::read(descriptor_, target + done, bytes - done);
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got < 0) {
      throw IoError("{}: cannot be read ({})", path_, std::strerror(errno));
    }
    if (got == 0) {
      break;
    }
    done += static_cast<std::size_t>(got);
  }
  return done;
}

bool read_whole(const fs::path& path, std::size_t limit, PaddedText& text) {
  ByteReader reader(path);
  const std::optional<uint64_t> expected = reader.file_size();
  if (expected && *expected > limit) {
    return false;
  }
  // One byte more than the file had: a file that grows meanwhile is read to its end.
  std::size_t size = 0;
  std::size_t want = expected ? static_cast<std::size_t>(*expected) + 1 : 65536;
  text.clear();
  for (;;) {
    text.resize(size + want);
    const std::size_t got = reader.read(text.data() + size, want);
    size += got;
    if (size > limit) {
      text.clear();
      return false;
    }
    if (got < want) {
      text.resize(size);
      return true;
    }
    want = 65536;
  }
}

// --- LineBlocks ----------------------------------------------------------------------------------

LineBlocks::LineBlocks(const fs::path& path, std::size_t block_bytes, std::size_t limit)
    : reader_(path), block_bytes_(block_bytes), limit_(limit) {}

bool LineBlocks::next(Block& block) {
  block.overlong = false;
  block.first_line = line_;
  PaddedText& text = block.text;
  text.resize(carry_.size());
  std::memcpy(text.data(), carry_.data(), carry_.size());
  std::size_t size = carry_.size();
  carry_.clear();
  std::size_t searched = 0;  // bytes known to hold no line feed
  while (!ended_) {
    text.resize(size + block_bytes_);
    const std::size_t got = reader_.read(text.data() + size, block_bytes_);
    size += got;
    ended_ = got < block_bytes_;
    if (ended_) {
      break;
    }
    const void* last = ::memrchr(text.data() + searched, '\n', size - searched);
    if (last != nullptr) {
      const auto cut = static_cast<std::size_t>(static_cast<const char*>(last) - text.data()) + 1;
      carry_.assign(text.data() + cut, size - cut);
      size = cut;
      break;
    }
    if (size > limit_) {
      return fill_overlong(block);
    }
    searched = size;
  }
  text.resize(size);
  block.file_bytes = size;
  const bool unended = size > 0 && text.data()[size - 1] != '\n';
  block.lines = std::count(text.data(), text.data() + size, '\n') + (unended ? 1 : 0);
  line_ += block.lines;
  return size > 0;
}

// The line in progress is too long: reads to its end without keeping it.
bool LineBlocks::fill_overlong(Block& block) {
  block.overlong = true;
  block.file_bytes = block.text.size();
  block.lines = 1;
  ++line_;
  block.text.clear();
  std::string chunk(block_bytes_, '\0');
  for (;;) {
    const std::size_t got = reader_.read(chunk.data(), chunk.size());
    block.file_bytes += got;
    ended_ = got < chunk.size();
    const void* end = std::memchr(chunk.data(), '\n', got);
    if (end != nullptr) {
      const auto cut = static_cast<std::size_t>(static_cast<const char*>(end) - chunk.data()) + 1;
      carry_.assign(chunk.data() + cut, got - cut);
      block.file_bytes -= got - cut;
      return true;
    }
    if (ended_) {
      return true;
    }
  }
}

}  // namespace stemfabric
