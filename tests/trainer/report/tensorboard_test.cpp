#include "trainer/report/tensorboard.h"

#include <gtest/gtest.h>

#include <bit>
#include <chrono>
#include <cmath>
#include <limits>
#include <map>
#include <vector>

#include "runtime/core/check.h"
#include "runtime/io/file.h"
#include "tests/support/paths.h"

namespace stemfabric {
namespace {

using test::TempDir;

TEST(TensorBoard, CrcKnownAnswers) {
  // RFC 3720, B.4, and the usual check value.
  EXPECT_EQ(crc32c("123456789"), 0xe3069283U);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aaU);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43U);
  std::string ascending;
  for (char c = 0; c < 32; ++c) {
    ascending += c;
  }
  EXPECT_EQ(crc32c(ascending), 0x46dd794eU);
  EXPECT_EQ(crc32c(""), 0U);
  EXPECT_EQ(masked_crc32c(""), 0xa282ead8U);
}

// A decoder of the frames and of protobuf, written from their specifications.
struct Decoder {
  std::string_view bytes;
  uint64_t fixed(std::size_t size) {
    uint64_t value = 0;
    for (std::size_t i = 0; i < size; ++i) {
      value |= static_cast<uint64_t>(static_cast<unsigned char>(bytes.at(i))) << (8 * i);
    }
    bytes.remove_prefix(size);
    return value;
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const uint64_t byte = fixed(1);
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) {
        return value;
      }
    }
  }
  std::string_view take(std::size_t size) {
    EXPECT_LE(size, bytes.size());
    const std::string_view part = bytes.substr(0, size);
    bytes.remove_prefix(size);
    return part;
  }
};

struct Event {
  double wall_time = 0;
  int64_t step = 0;
  std::string version;
  std::string session_log;
  std::map<std::string, float> scalars;
};

void decode_summary(std::string_view bytes, Event& event) {
  Decoder summary{bytes};
  while (!summary.bytes.empty()) {
    EXPECT_EQ(summary.varint(), 0x0aU);
    Decoder value{summary.take(summary.varint())};
    EXPECT_EQ(value.varint(), 0x0aU);
    const std::string tag(value.take(value.varint()));
    EXPECT_EQ(value.varint(), 0x15U);
    event.scalars[tag] = std::bit_cast<float>(static_cast<uint32_t>(value.fixed(4)));
    EXPECT_TRUE(value.bytes.empty());
  }
}

Event decode_event(std::string_view bytes) {
  Event event;
  Decoder in{bytes};
  while (!in.bytes.empty()) {
    switch (in.varint()) {
      case 0x09:
        event.wall_time = std::bit_cast<double>(in.fixed(8));
        break;
      case 0x10:
        event.step = static_cast<int64_t>(in.varint());
        break;
      case 0x1a:
        event.version = in.take(in.varint());
        break;
      case 0x2a:
        decode_summary(in.take(in.varint()), event);
        break;
      case 0x3a:
        event.session_log = in.take(in.varint());
        break;
      default:
        ADD_FAILURE() << "unknown field";
        return event;
    }
  }
  return event;
}

std::vector<Event> decode_file(const std::filesystem::path& path) {
  const std::string text = read_text_file(path);
  Decoder in{text};
  std::vector<Event> events;
  while (!in.bytes.empty()) {
    const std::string_view length_bytes = in.bytes.substr(0, 8);
    const std::size_t length = in.fixed(8);
    EXPECT_EQ(in.fixed(4), masked_crc32c(length_bytes));
    const std::string_view data = in.take(length);
    EXPECT_EQ(in.fixed(4), masked_crc32c(data));
    events.push_back(decode_event(data));
  }
  return events;
}

TEST(TensorBoard, ScalarsComeBack) {
  const TempDir dir;
  TensorBoardWriter writer(dir / "run/tensorboard");
  const std::vector<Scalar> first = {{"loss", 0.25}, {"loss/vocals", -1e-3}};
  writer.add_scalars(0, first);
  EXPECT_EQ(decode_file(writer.path()).size(), 2U);  // readable while the run goes on
  const std::vector<Scalar> second = {{"loss", std::numeric_limits<double>::quiet_NaN()},
                                      {std::string_view("lr"), 1e-300}};
  writer.add_scalars(int64_t{1} << 40, second);
  const auto events = decode_file(writer.path());
  ASSERT_EQ(events.size(), 3U);
  EXPECT_EQ(events[0].version, "brain.Event:2");
  EXPECT_EQ(events[1].step, 0);
  EXPECT_EQ(events[1].scalars,
            (std::map<std::string, float>{{"loss", 0.25F}, {"loss/vocals", -1e-3F}}));
  EXPECT_EQ(events[2].step, int64_t{1} << 40);
  EXPECT_TRUE(std::isnan(events[2].scalars.at("loss")));
  EXPECT_EQ(events[2].scalars.at("lr"), 0.0F);
  const double now =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  EXPECT_NEAR(events[2].wall_time, now, 600);
}

TEST(TensorBoard, ResumedRunGetsAFileOfItsOwn) {
  const TempDir dir;
  const TensorBoardWriter first(dir.path());
  const TensorBoardWriter second(dir.path(), 120);
  EXPECT_NE(first.path(), second.path());
  EXPECT_EQ(first.path().filename().string().rfind("events.out.tfevents.", 0), 0U);
  const auto events = decode_file(second.path());
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events[1].step, 120);
  EXPECT_EQ(events[1].session_log, "\x08\x01");
}

TEST(TensorBoard, UnwritableFolder) {
  const TempDir dir;
  write_text_file(dir / "file", "x");
  EXPECT_THROW(TensorBoardWriter(dir / "file/below"), IoError);
}

}  // namespace
}  // namespace stemfabric
