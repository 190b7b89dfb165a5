#include "runtime/io/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "runtime/core/check.h"
#include "tests/support/mutations.h"
#include "tests/support/paths.h"

namespace stemfabric {
namespace {

using test::TempDir;
using testing::HasSubstr;

std::string st_bytes(const std::string& header, const std::string& data) {
  const uint64_t size = header.size();
  return std::string(reinterpret_cast<const char*>(&size), 8) + header + data;
}

std::string refusal(const std::string& bytes) {
  const TempDir dir;
  write_text_file(dir / "x.safetensors", bytes);
  try {
    const SafetensorsFile file(dir / "x.safetensors");
    // Reads every byte that the views promise: the address sanitizer watches.
    unsigned sum = 0;
    for (const auto& [name, view] : file.tensors()) {
      const auto* data = static_cast<const unsigned char*>(view.data());
      sum = std::accumulate(data, data + view.bytes(), sum);
    }
    EXPECT_NE(sum, 0xffffffffU);
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("x.safetensors"));
    return error.what();
  }
  return "accepted";
}

// `header` over 16 bytes of data.
std::string refused(const std::string& header) {
  return refusal(st_bytes(header, "0123456789abcdef"));
}

TEST(Safetensors, RoundTrip) {
  const TempDir dir;
  std::vector<float> a(12);
  std::iota(a.begin(), a.end(), 1.0F);
  const std::vector<uint8_t> b = {1, 2, 3};
  const std::vector<double> c = {-0.5};
  const std::map<std::string, std::string> metadata = {{"config", R"({"dim": 8, "ü": "\n"})"},
                                                       {"empty", ""}};
  // Columns 1 and 2 of a [3, 4] matrix, and a part of a rank-3 view with every axis strided.
  const ConstTensorView matrix(a.data(), Shape{3, 4});
  const ConstTensorView cube(a.data(), Shape{2, 3, 2});
  const std::string hash = write_safetensors(dir / "x.safetensors",
                                             {{"b", ConstTensorView(b.data(), Shape{3})},
                                              {"columns", matrix.slice(1, 1, 2)},
                                              {"whole \"name\"\\ü", matrix},
                                              {"cube", cube.slice(2, 1, 1).slice(1, 0, 2)},
                                              {"c", ConstTensorView(c.data(), Shape{})},
                                              {"none", ConstTensorView(a.data(), Shape{0, 4})}},
                                             metadata);
  EXPECT_EQ(hash, sha256_file(dir / "x.safetensors"));
  const SafetensorsFile file(dir / "x.safetensors");
  EXPECT_EQ(file.metadata(), metadata);
  ASSERT_EQ(file.tensors().size(), 6U);
  const auto floats = [&](const std::string& name) {
    const ConstTensorView view = file.at(name);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(view.data()) % 4, 0U);
    return std::vector<float>(view.as<float>(), view.as<float>() + view.elements());
  };
  EXPECT_EQ(floats("columns"), (std::vector<float>{2, 3, 6, 7, 10, 11}));
  EXPECT_EQ(file.at("columns").shape(), Shape({3, 2}));
  EXPECT_EQ(floats("whole \"name\"\\ü"), a);
  EXPECT_EQ(floats("cube"), (std::vector<float>{2, 4, 8, 10}));
  EXPECT_EQ(file.at("cube").shape(), Shape({2, 2, 1}));
  EXPECT_EQ(file.at("c").as<double>()[0], -0.5);
  EXPECT_EQ(file.at("b").as<uint8_t>()[2], 3);
  EXPECT_EQ(file.at("none").shape(), Shape({0, 4}));
  EXPECT_TRUE(file.contains("b"));
  EXPECT_FALSE(file.contains("d"));
  try {
    (void)file.at("d");
    FAIL();
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("x.safetensors: has no tensor 'd'"));
  }
}

TEST(Safetensors, NoTensors) {
  const TempDir dir;
  write_safetensors(dir / "x.safetensors", {}, {});
  EXPECT_TRUE(SafetensorsFile(dir / "x.safetensors").tensors().empty());
}

TEST(Safetensors, WriterRefusesTwoEqualNames) {
  const TempDir dir;
  const float x = 1;
  const ConstTensorView view(&x, Shape{1});
  EXPECT_THROW(write_safetensors(dir / "x.safetensors", {{"a", view}, {"a", view}}, {}),
               InternalError);
  EXPECT_THROW(write_safetensors(dir / "x.safetensors", {{"__metadata__", view}}, {}),
               InternalError);
  EXPECT_THROW(write_safetensors(dir / "x.safetensors", {{"a", view}}, {{"bad", "\xff"}}),
               InternalError);
  EXPECT_FALSE(std::filesystem::exists(dir / "x.safetensors"));
}

TEST(Safetensors, AcceptsWhatTheFormatAllows) {
  EXPECT_EQ(refused(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})"), "accepted");
  EXPECT_EQ(refused(R"({"a":{"data_offsets":[0,16],"shape":[2,2],"dtype":"F32"}}   )"), "accepted");
  EXPECT_EQ(refused(R"({"b":{"dtype":"U8","shape":[8],"data_offsets":[8,16]},)"
                    R"("a":{"dtype":"F64","shape":[],"data_offsets":[0,8]}})"),
            "accepted");
  // Zero-sized tensors anywhere.
  EXPECT_EQ(refused(R"({"z":{"dtype":"F32","shape":[0,5],"data_offsets":[16,16]},)"
                    R"("y":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},)"
                    R"("a":{"dtype":"BF16","shape":[8],"data_offsets":[0,16]}})"),
            "accepted");
  EXPECT_EQ(
      refused(R"({"__metadata__":{},"a":{"dtype":"BOOL","shape":[16],"data_offsets":[0,16]}})"),
      "accepted");
}

TEST(Safetensors, MisalignedTensorsAreReadable) {
  const TempDir dir;
  const float values[3] = {1.5F, -2, 3};
  std::string data = "x";
  data.append(reinterpret_cast<const char*>(values), sizeof values);
  write_text_file(dir / "x", st_bytes(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                      R"("b":{"dtype":"F32","shape":[3],"data_offsets":[1,13]}})",
                                      data));
  SafetensorsFile first(dir / "x");
  const SafetensorsFile file = std::move(first);
  const auto* b = file.at("b").as<float>();
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(b) % 4, 0U);
  EXPECT_EQ(b[0], 1.5F);
  EXPECT_EQ(b[2], 3.0F);
}

struct BadHeader {
  const char* header;
  const char* message;
};

TEST(Safetensors, RefusesBadHeaders) {
  const BadHeader cases[] = {
      {R"([])", "begin with {"},
      {R"( {})", "begin with {"},
      {"\xef\xbb\xbf{}", "begin with {"},
      {R"({})", "16 bytes after its last tensor"},
      {R"({} x)", "not valid JSON"},
      {R"({}{})", "not valid JSON"},
      {R"({"a":)", "not valid JSON"},
      {"{\"a\xff\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}", "not valid JSON"},
      {R"({"\ud800":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})", "not valid JSON"},
      {R"({"a":null})", "null"},
      {R"({"a":true})", "a boolean"},
      {R"({"a":3})", "a number"},
      {R"({"a":"text"})", "a string"},
      {R"({"a":[]})", "a list"},
      {R"({"a":{"dtype":"F32","shape":[4]}})", "lacks"},
      {R"({"a":{}})", "lacks"},
      {R"({"":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})", "name has 0 bytes"},
      {R"({"a":{"dtype":"f32","shape":[4],"data_offsets":[0,16]}})", "dtype 'f32'"},
      {R"({"a":{"dtype":"I8","shape":[16],"data_offsets":[0,16]}})", "not supported"},
      {R"({"a":{"dtype":5,"shape":[4],"data_offsets":[0,16]}})", "a number"},
      {R"({"a":{"dtype":"F32","shape":"4","data_offsets":[0,16]}})", "a string"},
      {R"({"a":{"dtype":"F32","shape":4,"data_offsets":[0,16]}})", "a number"},
      {R"({"a":{"dtype":"F32","shape":[4.0],"data_offsets":[0,16]}})", "not an integer"},
      {R"({"a":{"dtype":"F32","shape":[4e0],"data_offsets":[0,16]}})", "not an integer"},
      {R"({"a":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}})", "negative"},
      {R"({"a":{"dtype":"F32","shape":[04],"data_offsets":[0,16]}})", "not valid JSON"},
      {R"({"a":{"dtype":"F32","shape":[[4]],"data_offsets":[0,16]}})", "a list"},
      {R"({"a":{"dtype":"F32","shape":[{}],"data_offsets":[0,16]}})", "an object"},
      {R"({"a":{"dtype":"F32","shape":["4"],"data_offsets":[0,16]}})", "a string"},
      {R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0]}})", "not [begin, end]"},
      {R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16,16]}})", "not [begin, end]"},
      {R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}})", "not [begin, end]"},
      {R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,16]}})", "that is 12 bytes"},
      {R"({"a":{"dtype":"F32","shape":[8],"data_offsets":[0,32]}})", "truncated"},
      {R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[4,16]}})", "hole"},
      {R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}})", "4 bytes after"},
      {R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16],"x":1}})", "unknown field 'x'"},
      {R"({"a":{"dtype":"F32","dtype":"F32","shape":[4],"data_offsets":[0,16]}})", "repeated"},
      {R"({"a":{"dtype":"F32","shape":[4],"shape":[4],"data_offsets":[0,16]}})", "repeated"},
      {R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,4],"data_offsets":[0,16]}})", "7 dimensions"},
      {R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,4],"data_offsets":[0,16]}})", "more than 8"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
       R"("a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})",
       "tensor 'a' twice"},
      {R"({"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},)"
       R"("a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})",
       "tensor 'a' twice"},
      {R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]},)"
       R"("b":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})",
       "overlap"},
      {R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},)"
       R"("b":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})",
       "overlap"},
      // Sizes whose products leave 64 bits, also behind a zero.
      {R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,16]}})",
       "overflows"},
      {R"({"a":{"dtype":"F32","shape":[0,4294967296,4294967296],"data_offsets":[0,0]}})",
       "overflows"},
      {R"({"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,16]}})",
       "overflows"},
      {R"({"a":{"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,16]}})",
       "below 2^64"},
      {R"({"a":{"dtype":"U8","shape":[16],"data_offsets":[18446744073709551600,0]}})",
       "not [begin, end]"},
      {R"({"a":{"dtype":"U8","shape":[16],"data_offsets":[9223372036854775800,9223372036854775816]}})",
       "truncated"},
      {R"({"__metadata__":null})", "null"},
      {R"({"__metadata__":[]})", "a list"},
      {R"({"__metadata__":{"a":1}})", "a number"},
      {R"({"__metadata__":{"a":{}}})", "an object"},
      {R"({"__metadata__":{"a":["x"]}})", "a list"},
      {R"({"__metadata__":{"a":"x","a":"y"}})", "twice"},
      {R"({"__metadata__":{},"__metadata__":{}})", "__metadata__ twice"},
  };
  for (const BadHeader& bad : cases) {
    EXPECT_THAT(refused(bad.header), HasSubstr(bad.message)) << bad.header;
  }
  EXPECT_THAT(refused(std::string("{}\0", 3)), HasSubstr("NUL"));
  EXPECT_THAT(refused("{\"" + std::string(2000, 'n') + "\":{}}"), HasSubstr("2000 bytes"));
  EXPECT_THAT(refused("{\"a\":" + std::string(100000, '[')), HasSubstr("a list"));
  EXPECT_THAT(refused("{\"a\":" + std::string(100000, '{')), HasSubstr("JSON"));
  // Control characters of a name must not reach a terminal.
  EXPECT_THAT(refused(R"({"\u001b[2J":{"dtype":"X","shape":[4],"data_offsets":[0,16]}})"),
              HasSubstr("'?[2J'"));
}

TEST(Safetensors, RefusesBadLengths) {
  EXPECT_THAT(refusal(""), HasSubstr("fewer than 8"));
  EXPECT_THAT(refusal("1234567"), HasSubstr("fewer than 8"));
  EXPECT_THAT(refusal(std::string(8, '\0')), HasSubstr("begin with {"));
  EXPECT_THAT(refusal(std::string(8, '\xff')), HasSubstr("too large"));
  EXPECT_THAT(refusal(std::string("\3\0\0\0\0\0\0\0{}", 10)), HasSubstr("truncated"));
  EXPECT_EQ(refusal(std::string("\2\0\0\0\0\0\0\0{}", 10)), "accepted");
}

TEST(Safetensors, EveryTruncationIsRefusedAndEveryBitFlipSurvived) {
  const std::string data = "0123456789abcdefX";
  const std::string whole = st_bytes(
      R"({"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
      R"("b":{"dtype":"F64","shape":[],"data_offsets":[8,16]},)"
      R"("c":{"dtype":"U8","shape":[1],"data_offsets":[16,17]}} )",
      data);
  ASSERT_EQ(refusal(whole), "accepted");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_NE(refusal(whole.substr(0, size)), "accepted") << size;
  }
  EXPECT_THAT(refusal(whole + "x"), HasSubstr("after its last tensor"));
  int accepted = 0;
  const std::size_t bits = (whole.size() - data.size()) * 8;
  for (std::size_t bit = 0; bit < bits; ++bit) {
    std::string flipped = whole;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    accepted += refusal(flipped) == "accepted" ? 1 : 0;
  }
  // Other names, metadata, and U8 -> another letter; no flip of a size or an offset passes.
  EXPECT_LT(accepted, 120);
}

TEST(Safetensors, DamagedFilesAreReadOrRefused) {
  const TempDir dir;
  const std::string file = st_bytes(
      R"({"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
      R"("b":{"dtype":"F64","shape":[],"data_offsets":[8,16]},)"
      R"("c":{"dtype":"U8","shape":[1],"data_offsets":[16,17]}} )",
      "0123456789abcdefX");
  const auto counts =
      test::read_mutated(dir / "damaged.st", file, {.seed = 12, .rounds = 1500}, [&] {
        const SafetensorsFile read(dir / "damaged.st");
        unsigned sum = 0;  // every byte that a tensor says it has
        for (const auto& [name, tensor] : read.tensors()) {
          for (std::size_t i = 0; i < tensor.bytes(); ++i) {
            sum += static_cast<const unsigned char*>(tensor.data())[i];
          }
        }
        EXPECT_LE(sum, 17U * 255U);
      });
  EXPECT_GT(counts.refused, 500);
}

}  // namespace
}  // namespace stemfabric
