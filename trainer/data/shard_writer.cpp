#include "trainer/data/shard_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "runtime/core/check.h"
#include "runtime/io/file.h"
#include "trainer/data/shard.h"
#include "trainer/stems.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kIdBytes = 64 + 5;  // an id in the header: \"…\", and the backslashes

// One tensor of the shard file; 4-byte elements come first, so that all lie aligned without gaps.
struct Part {
  const char* name;
  const char* dtype;
  std::string row_shape;  // ",64,148" behind the number of samples
  int64_t row_bytes;
};

void write_at(int descriptor, const fs::path& path, const void* data, int64_t bytes,
              int64_t offset) {
  const char* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t put = ::pwrite(descriptor, from, static_cast<std::size_t>(bytes), offset);
    if (put < 0 && errno == EINTR) {
      continue;
    }
    if (put < 0) {
      throw IoError("{}: cannot be written ({})", path.string(), std::strerror(errno));
    }
    from += put;
    offset += put;
    bytes -= put;
  }
}

void read_at(int descriptor, const fs::path& path, void* data, int64_t bytes, int64_t offset) {
  char* to = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t got = ::pread(descriptor, to, static_cast<std::size_t>(bytes), offset);
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got <= 0) {
      throw IoError("{}: cannot be read back ({})", path.string(),
                    got == 0 ? "it ends early" : std::strerror(errno));
    }
    to += got;
    offset += got;
    bytes -= got;
  }
}

}  // namespace

struct ShardWriter::State {
  fs::path folder;
  int64_t capacity = 0;
  std::array<Part, 5> parts;
  int64_t header_bytes = 0;  // with the 8 bytes of its length
  std::vector<Written> written;
  int64_t total = 0;

  int descriptor = -1;  // of the open shard
  fs::path path;
  std::vector<std::string> ids;

  void open();
  void put(const std::string& id, const TokenSample& sample);
  void close();
  std::string header(int64_t samples) const;
};

ShardWriter::ShardWriter(const fs::path& folder, int64_t tokens, int64_t features, int64_t outputs,
                         int64_t shard_samples)
    : state_(std::make_unique<State>()) {
  SF_CHECK(shard_samples >= 1);
  State& s = *state_;
  s.folder = folder;
  s.capacity = shard_samples;
  const int64_t targets = kStemCount * tokens * outputs;
  s.parts = {{
      {"inputs", "F32", fmt::format(",{},{}", tokens, features), tokens * features * 4},
      {"targets", "F32", fmt::format(",{},{},{}", kStemCount, tokens, outputs), targets * 4},
      {"stem_weight", "F32", fmt::format(",{}", kStemCount), kStemCount * 4},
      {"input_mask", "U8", fmt::format(",{}", tokens), tokens},
      {"target_mask", "U8", fmt::format(",{},{},{}", kStemCount, tokens, outputs), targets},
  }};
  // The longest header: all ids, and numbers of at most 20 digits.
  s.header_bytes = ceil_div(8 + 2048 + shard_samples * kIdBytes, 64) * 64;
}

ShardWriter::~ShardWriter() {
  if (state_->descriptor >= 0) {
    ::close(state_->descriptor);
  }
}

int64_t ShardWriter::samples() const { return state_->total; }

// The safetensors header for `samples` samples, filled up with spaces.
std::string ShardWriter::State::header(int64_t samples) const {
  std::string text = R"({"__metadata__":{"format":"stemfabric-shard","ids":"[)";
  for (std::size_t i = 0; i < ids.size(); ++i) {
    text += (i == 0 ? R"(\")" : R"(,\")") + ids[i] + R"(\")";
  }
  text += "]\"}";
  int64_t offset = 0;
  for (const Part& part : parts) {
    const int64_t end = offset + samples * part.row_bytes;
    text += fmt::format(R"(,"{}":{{"dtype":"{}","shape":[{}{}],"data_offsets":[{},{}]}})",
                        part.name, part.dtype, samples, part.row_shape, offset, end);
    offset = end;
  }
  text += '}';
  const auto length = static_cast<std::size_t>(header_bytes - 8);
  SF_CHECK(text.size() <= length, "header of {} bytes", text.size());
  text.resize(length, ' ');
  std::string bytes(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) {
    bytes[i] = static_cast<char>((static_cast<uint64_t>(length) >> (8 * i)) & 0xFF);
  }
  return bytes + text;
}

void ShardWriter::State::open() {
  path = folder / shard_file_name(static_cast<int64_t>(written.size()));
  descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor < 0) {
    throw IoError("{}: cannot be created ({})", path.string(), std::strerror(errno));
  }
  ids.clear();
}

void ShardWriter::State::put(const std::string& id, const TokenSample& sample) {
  const auto row = static_cast<int64_t>(ids.size());
  const std::array<const void*, 5> data = {sample.inputs.data(), sample.targets.data(),
                                           sample.stem_weight.data(), sample.input_mask.data(),
                                           sample.target_mask.data()};
  int64_t offset = header_bytes;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    write_at(descriptor, path, data[i], parts[i].row_bytes, offset + row * parts[i].row_bytes);
    offset += capacity * parts[i].row_bytes;
  }
  ids.push_back(id);
}

// The tensors stand where those of a full shard stand: those of a smaller one are moved together.
// Each byte is hashed on its way, so that the file is not read a second time.
void ShardWriter::State::close() {
  const auto samples = static_cast<int64_t>(ids.size());
  const std::string text = header(samples);
  write_at(descriptor, path, text.data(), static_cast<int64_t>(text.size()), 0);
  Sha256 hash;
  hash.update(text);
  int64_t from = header_bytes;
  int64_t to = header_bytes;
  std::string chunk(256 << 10, '\0');  // stays in the cache from reading to writing
  for (const Part& part : parts) {
    const int64_t bytes = samples * part.row_bytes;
    for (int64_t done = 0; done < bytes;) {
      const int64_t size = std::min(bytes - done, static_cast<int64_t>(chunk.size()));
      read_at(descriptor, path, chunk.data(), size, from + done);
      hash.update(std::string_view(chunk.data(), static_cast<std::size_t>(size)));
      if (from != to) {
        write_at(descriptor, path, chunk.data(), size, to + done);
      }
      done += size;
    }
    from += capacity * part.row_bytes;
    to += bytes;
  }
  const int cut_error = ::ftruncate(descriptor, to) == 0 ? 0 : errno;
  // The way to the disk begins now: the fsync of the whole folder at the end then waits less.
  ::sync_file_range(descriptor, 0, 0, SYNC_FILE_RANGE_WRITE);
  const int close_error = ::close(descriptor) == 0 ? 0 : errno;
  descriptor = -1;
  if (const int error = cut_error != 0 ? cut_error : close_error; error != 0) {
    throw IoError("{}: cannot be written ({})", path.string(), std::strerror(error));
  }
  written.push_back({path.filename().string(), samples, hash.hex()});
}

void ShardWriter::add(const std::string& id, const TokenSample& sample) {
  State& s = *state_;
  SF_CHECK(id.size() <= 64 && id.find_first_of("\"\\") == std::string::npos, "id {}", id);
  if (s.descriptor < 0) {
    s.open();
  }
  s.put(id, sample);
  ++s.total;
  if (static_cast<int64_t>(s.ids.size()) == s.capacity) {
    s.close();
  }
}

std::vector<ShardWriter::Written> ShardWriter::finish() {
  if (state_->descriptor >= 0) {
    state_->close();
  }
  return state_->written;
}

}  // namespace stemfabric
