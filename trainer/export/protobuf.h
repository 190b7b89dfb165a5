// The wire form of Protocol Buffers, as much of it as ONNX files need: varints, 32-bit and
// length-delimited fields. Source: protobuf.dev/programming-guides/encoding.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace stemfabric {

// A message as it is written: fields in the order of the calls.
class ProtobufMessage {
 public:
  ProtobufMessage& integer(int field, int64_t value);  // negative values take ten bytes
  ProtobufMessage& number(int field, float value);
  ProtobufMessage& bytes(int field, std::string_view value);
  ProtobufMessage& message(int field, const ProtobufMessage& value) {
    return bytes(field, value.encoded_);
  }
  const std::string& encoded() const { return encoded_; }

 private:
  void varint(uint64_t value);
  std::string encoded_;
};

struct ProtobufField {
  int number = 0;
  int type = 0;  // 0 varint, 1 64-bit, 2 length-delimited, 5 32-bit
  uint64_t integer = 0;
  float value = 0.0F;      // of type 5
  std::string_view bytes;  // of type 2, into the message

  // A repeated integer field comes as single varints or packed into one field: adds what is here.
  void append_integers(std::vector<int64_t>& to) const;
};

// Field by field over an encoded message that may hold anything: InputError (without a file name)
// where it is cut short or breaks the rules.
class ProtobufReader {
 public:
  explicit ProtobufReader(std::string_view message) : rest_(message) {}
  bool next(ProtobufField& field);  // false at the end

 private:
  std::string_view rest_;
};

}  // namespace stemfabric
