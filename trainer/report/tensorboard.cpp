#include "trainer/report/tensorboard.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <system_error>

#include "runtime/core/check.h"
#include "runtime/io/file.h"

namespace stemfabric {
namespace {

constexpr std::array<uint32_t, 256> make_crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) {
      value = (value >> 1) ^ ((value & 1) != 0 ? 0x82f63b78U : 0U);  // reversed polynomial
    }
    table[i] = value;
  }
  return table;
}

// Little-endian bytes of an integer.
template <typename T>
void put_fixed(std::string& out, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    out += static_cast<char>(value >> (8 * i) & 0xff);
  }
}

void put_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) {
    out += static_cast<char>((value & 0x7f) | 0x80);
  }
  out += static_cast<char>(value);
}

// Wire types of protobuf: 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes.
void put_tag(std::string& out, uint32_t field, uint32_t wire) {
  put_varint(out, field << 3 | wire);
}

void put_bytes(std::string& out, uint32_t field, std::string_view bytes) {
  put_tag(out, field, 2);
  put_varint(out, bytes.size());
  out += bytes;
}

// Event: 1 wall_time (double), 2 step (int64).
std::string event_head(int64_t step) {
  const double now =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  std::string event;
  put_tag(event, 1, 1);
  put_fixed(event, std::bit_cast<uint64_t>(now));
  put_tag(event, 2, 0);
  put_varint(event, static_cast<uint64_t>(step));
  return event;
}

// Summary.Value: 1 tag (string), 2 simple_value (float).
std::string summary_value(const Scalar& scalar) {
  std::string value;
  put_bytes(value, 1, scalar.tag);
  put_tag(value, 2, 5);
  put_fixed(value, std::bit_cast<uint32_t>(static_cast<float>(scalar.value)));
  return value;
}

[[noreturn]] void fail(const std::filesystem::path& path, int error) {
  throw IoError("cannot write {}: {}", path.string(), std::generic_category().message(error));
}

std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) {
    return "localhost";
  }
  return name.data();
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  static constexpr std::array<uint32_t, 256> kTable = make_crc_table();
  uint32_t crc = ~0U;
  for (const char c : bytes) {
    crc = (crc >> 8) ^ kTable[(crc ^ static_cast<unsigned char>(c)) & 0xff];
  }
  return ~crc;
}

uint32_t masked_crc32c(std::string_view bytes) {
  const uint32_t crc = crc32c(bytes);
  return (crc >> 15 | crc << 17) + 0xa282ead8U;
}

TensorBoardWriter::TensorBoardWriter(const std::filesystem::path& folder, int64_t first_step) {
  make_directories(folder);
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(
                           std::chrono::system_clock::now().time_since_epoch())
                           .count();
  for (int n = 0; file_ < 0; ++n) {
    path_ = folder /
            fmt::format("events.out.tfevents.{:010}.{}.{}.{}", seconds, host_name(), ::getpid(), n);
    file_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
    if (file_ < 0 && errno != EEXIST) {
      fail(path_, errno);
    }
  }
  // Event: 3 file_version (string). The first record of every file.
  std::string version = event_head(0);
  put_bytes(version, 3, "brain.Event:2");
  write_record(version);
  if (first_step > 0) {
    // Event: 7 session_log {1 status = START (1)}: points from this step on are dropped.
    std::string start = event_head(first_step);
    put_bytes(start, 7, std::string_view("\x08\x01", 2));
    write_record(start);
  }
}

TensorBoardWriter::~TensorBoardWriter() {
  if (file_ >= 0) {
    ::close(file_);
  }
}

void TensorBoardWriter::add_scalars(int64_t step, std::span<const Scalar> scalars) {
  std::string summary;
  for (const Scalar& scalar : scalars) {
    put_bytes(summary, 1, summary_value(scalar));  // Summary: 1 value, repeated
  }
  std::string event = event_head(step);
  put_bytes(event, 5, summary);  // Event: 5 summary
  write_record(event);
}

void TensorBoardWriter::write_record(const std::string& data) {
  std::string frame;
  put_fixed(frame, static_cast<uint64_t>(data.size()));
  put_fixed(frame, masked_crc32c(frame));
  frame += data;
  put_fixed(frame, masked_crc32c(data));
  // One append for the whole frame: a reader never waits in the middle of one for long.
  for (std::string_view rest = frame; !rest.empty();) {
    const ssize_t done = ::write(file_, rest.data(), rest.size());
    if (done < 0 && errno != EINTR) {
      fail(path_, errno);
    }
    rest.remove_prefix(done < 0 ? 0 : static_cast<std::size_t>(done));
  }
}

}  // namespace stemfabric
