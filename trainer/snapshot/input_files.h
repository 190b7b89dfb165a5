// The snapshot files of a folder in their fixed order, and large line files in blocks.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace stemfabric {

struct InputFile {
  std::filesystem::path path;
  std::string name;    // relative to the folder; the file itself as given if there is no folder
  std::string error;   // set if it cannot be read: a broken link, a folder without permission
  bool lines = false;  // *.jsonl: one object per line
};

// Walks a folder in byte order of the names at each level, entering folders where they stand.
// Takes *.json and *.jsonl; links to files count, links to folders are not followed (no loops).
// Holds the names of the open folders only.
class InputWalker {
 public:
  // `root` is a folder or one file. InputError if it does not exist. `skip`: files that are never
  // taken (the command's own outputs).
  InputWalker(const std::filesystem::path& root, std::vector<std::filesystem::path> skip);
  ~InputWalker();
  InputWalker(const InputWalker&) = delete;
  InputWalker& operator=(const InputWalker&) = delete;
  bool next(InputFile& file);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Text with readable bytes behind it, as simdjson wants it. Keeps its memory.
class PaddedText {
 public:
  std::string_view view() const { return {bytes_.data(), size_}; }
  char* data() { return bytes_.data(); }
  std::size_t size() const { return size_; }
  // Room for `size` bytes, zeros behind them; contents up to the old size stay.
  void resize(std::size_t size);
  void clear() { resize(0); }
  // Gives memory back that only a rare large text needed.
  void trim(std::size_t keep);

 private:
  std::vector<char> bytes_;
  std::size_t size_ = 0;
};

// An open file; reads are whole unless the file ends.
class ByteReader {
 public:
  explicit ByteReader(const std::filesystem::path& path);  // IoError with the system's reason
  ~ByteReader();
  ByteReader(const ByteReader&) = delete;
  ByteReader& operator=(const ByteReader&) = delete;
  std::size_t read(char* target, std::size_t bytes);
  std::optional<uint64_t> file_size() const;  // nothing for what is no regular file

 private:
  int descriptor_ = -1;
  std::string path_;
};

// Reads a file of at most `limit` bytes; false if it is longer.
bool read_whole(const std::filesystem::path& path, std::size_t limit, PaddedText& text);

// Cuts a file into blocks of whole lines. A line longer than `limit` is skipped and its block holds
// nothing but the word that there was one.
class LineBlocks {
 public:
  struct Block {
    PaddedText text;
    int64_t first_line = 1;
    int64_t lines = 0;        // line feeds, and an unended last line
    bool overlong = false;    // a line beyond the limit: `text` is empty
    uint64_t file_bytes = 0;  // bytes of the file that this block stands for
  };
  LineBlocks(const std::filesystem::path& path, std::size_t block_bytes, std::size_t limit);
  bool next(Block& block);

 private:
  bool fill_overlong(Block& block);
  ByteReader reader_;
  std::size_t block_bytes_;
  std::size_t limit_;
  std::string carry_;  // the begin of a line whose end is still to be read
  int64_t line_ = 1;
  bool ended_ = false;
};

}  // namespace stemfabric
