#include "trainer/export/protobuf.h"

#include <bit>
#include <cstring>

#include "runtime/core/check.h"

namespace stemfabric {
namespace {

constexpr int kVarint = 0;
constexpr int kFixed64 = 1;
constexpr int kDelimited = 2;
constexpr int kFixed32 = 5;

static_assert(std::endian::native == std::endian::little);

std::string_view take(std::string_view& rest, uint64_t count) {
  if (count > rest.size()) {
    throw InputError("a field of {} bytes, but {} bytes are left; the file is cut short or damaged",
                     count, rest.size());
  }
  const std::string_view taken = rest.substr(0, static_cast<std::size_t>(count));
  rest.remove_prefix(taken.size());
  return taken;
}

uint64_t take_varint(std::string_view& rest) {
  uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    const auto byte = static_cast<unsigned char>(take(rest, 1).front());
    value |= static_cast<uint64_t>(byte & 0x7FU) << shift;
    if (byte < 0x80) {
      return value;
    }
  }
  throw InputError("a number of more than ten bytes; the file is damaged");
}

}  // namespace

void ProtobufMessage::varint(uint64_t value) {
  for (; value >= 0x80; value >>= 7) {
    encoded_ += static_cast<char>((value & 0x7FU) | 0x80U);
  }
  encoded_ += static_cast<char>(value);
}

ProtobufMessage& ProtobufMessage::integer(int field, int64_t value) {
  varint(static_cast<uint64_t>(field) << 3 | kVarint);
  varint(static_cast<uint64_t>(value));
  return *this;
}

ProtobufMessage& ProtobufMessage::number(int field, float value) {
  varint(static_cast<uint64_t>(field) << 3 | kFixed32);
  char raw[sizeof(value)];
  std::memcpy(raw, &value, sizeof(value));
  encoded_.append(raw, sizeof(raw));
  return *this;
}

ProtobufMessage& ProtobufMessage::bytes(int field, std::string_view value) {
  varint(static_cast<uint64_t>(field) << 3 | kDelimited);
  varint(value.size());
  encoded_ += value;
  return *this;
}

void ProtobufField::append_integers(std::vector<int64_t>& to) const {
  if (type == kVarint) {
    to.push_back(static_cast<int64_t>(integer));
    return;
  }
  std::string_view rest = bytes;
  while (!rest.empty()) {
    to.push_back(static_cast<int64_t>(take_varint(rest)));
  }
}

bool ProtobufReader::next(ProtobufField& field) {
  if (rest_.empty()) {
    return false;
  }
  const uint64_t key = take_varint(rest_);
  field = {};
  field.number = static_cast<int>(key >> 3 & 0x1FFFFFFF);
  field.type = static_cast<int>(key & 7);
  if (field.type == kVarint) {
    field.integer = take_varint(rest_);
  } else if (field.type == kFixed64) {
    take(rest_, sizeof(uint64_t));
  } else if (field.type == kDelimited) {
    field.bytes = take(rest_, take_varint(rest_));
  } else if (field.type == kFixed32) {
    std::memcpy(&field.value, take(rest_, sizeof(float)).data(), sizeof(float));
  } else {
    throw InputError("a field of the unknown kind {}; the file is damaged", field.type);
  }
  return true;
}

}  // namespace stemfabric
