#include "runtime/io/npy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "runtime/core/check.h"
#include "tests/support/mutations.h"
#include "tests/support/paths.h"

namespace stemfabric {
namespace {

using test::TempDir;
using testing::HasSubstr;

// The bytes that numpy.save writes for a header text, padded as numpy does.
std::string npy_bytes(std::string header, const std::string& data, int version = 1) {
  const std::size_t prefix = version == 1 ? 10 : 12;
  header.append(63 - (prefix + header.size()) % 64, ' ');
  header += '\n';
  std::string bytes = "\x93NUMPY";
  bytes += static_cast<char>(version);
  bytes += '\0';
  for (std::size_t i = 0; i < prefix - 8; ++i) {
    bytes += static_cast<char>(header.size() >> (8 * i) & 0xff);
  }
  return bytes + header + data;
}

std::string raw(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * 4};
}

std::string refusal(const std::string& bytes) {
  const TempDir dir;
  test::put_file(dir / "x.npy", bytes);
  try {
    read_npy(dir / "x.npy");
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("x.npy"));
    return error.what();
  }
  return "accepted";
}

TEST(Npy, RoundTripOfEveryTypeAndRank) {
  const TempDir dir;
  for (const DType dtype : {DType::kF32, DType::kF64, DType::kI32, DType::kI64, DType::kU8}) {
    for (const Shape& shape :
         {Shape{}, Shape{5}, Shape{1}, Shape{3, 4}, Shape{2, 0, 3}, Shape{2, 1, 3, 1, 2, 2}}) {
      Tensor tensor(shape, dtype);
      auto* bytes = static_cast<unsigned char*>(tensor.view().data());
      std::iota(bytes, bytes + tensor.bytes(), static_cast<unsigned char>(7));
      write_npy(dir / "x.npy", tensor.view());
      const Tensor back = read_npy(dir / "x.npy");
      ASSERT_EQ(back.shape(), shape);
      ASSERT_EQ(back.dtype(), dtype);
      EXPECT_EQ(std::memcmp(back.view().data(), bytes, tensor.bytes()), 0);
    }
  }
}

TEST(Npy, WritesWhatNumpyWrites) {
  const TempDir dir;
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  write_npy(dir / "x.npy", ConstTensorView(values.data(), Shape{2, 3}));
  EXPECT_EQ(read_text_file(dir / "x.npy"),
            npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", raw(values)));
  write_npy(dir / "x.npy", ConstTensorView(values.data(), Shape{6}));
  EXPECT_EQ(read_text_file(dir / "x.npy"),
            npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (6,), }", raw(values)));
  write_npy(dir / "x.npy", ConstTensorView(values.data(), Shape{}));
  EXPECT_EQ(read_text_file(dir / "x.npy"),
            npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (), }", raw({1})));
}

TEST(Npy, ReadsOtherSpellings) {
  const TempDir dir;
  const std::string data = raw({1.5F, -2.0F});
  for (const int version : {1, 2, 3}) {
    for (const char* header : {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }",
                               "{\"shape\":(2,),\"fortran_order\":False,\"descr\":\"<f4\"}",
                               "{'shape': ( 2 , ), 'descr': '<f4', 'fortran_order': False, }"}) {
      test::put_file(dir / "x.npy", npy_bytes(header, data, version));
      const Tensor x = read_npy(dir / "x.npy");
      EXPECT_EQ(x.shape(), Shape({2}));
      EXPECT_EQ(x.as<float>()[0], 1.5F);
      EXPECT_EQ(x.as<float>()[1], -2.0F);
    }
  }
  test::put_file(dir / "x.npy",
                 npy_bytes("{'descr': '|b1', 'fortran_order': False, 'shape': (3,), }",
                           std::string("\1\0\1", 3)));
  EXPECT_EQ(read_npy(dir / "x.npy").as<uint8_t>()[2], 1);
}

// The value of element [i0, i1, ...] in these tests, and the bytes of such an array as numpy would
// save it in any order, byte order and type.
int value_at(const std::vector<int64_t>& index) {
  int value = 0;
  for (const int64_t i : index) {
    value = value * 5 + static_cast<int>(i);
  }
  return value % 120;
}

template <typename T>
std::string array_bytes(const std::vector<int64_t>& shape, bool fortran, bool big_endian) {
  int64_t elements = 1;
  for (const int64_t dim : shape) {
    elements *= dim;
  }
  std::string bytes;
  for (int64_t k = 0; k < elements; ++k) {
    std::vector<int64_t> index(shape.size());
    int64_t rest = k;
    for (std::size_t a = 0; a < shape.size(); ++a) {
      const std::size_t axis = fortran ? a : shape.size() - 1 - a;
      index[axis] = rest % shape[axis];
      rest /= shape[axis];
    }
    const T value = static_cast<T>(value_at(index));
    std::string item(sizeof(T), '\0');
    std::memcpy(item.data(), &value, sizeof(T));
    if (big_endian) {
      std::reverse(item.begin(), item.end());
    }
    bytes += item;
  }
  return bytes;
}

template <typename File, typename Memory>
void check_layouts(char kind) {
  const TempDir dir;
  const std::vector<std::vector<int64_t>> shapes = {
      {}, {4}, {3, 4}, {2, 3, 4}, {3, 1, 2, 5}, {2, 3, 2, 1, 2, 3}, {3, 0, 2}};
  for (const auto& shape : shapes) {
    for (const bool fortran : {false, true}) {
      for (const bool big : {false, true}) {
        std::string sizes;
        for (const int64_t dim : shape) {
          sizes += std::to_string(dim) + ",";
        }
        const std::string header =
            fmt::format("{{'descr': '{}{}{}', 'fortran_order': {}, 'shape': ({}), }}",
                        big ? '>' : '<', kind, sizeof(File), fortran ? "True" : "False", sizes);
        test::put_file(dir / "x.npy", npy_bytes(header, array_bytes<File>(shape, fortran, big)));
        const NpyFile file(dir / "x.npy");
        ASSERT_EQ(file.dtype(), kDTypeOf<Memory>) << header;
        const Shape want{std::span<const int64_t>(shape)};
        ASSERT_EQ(file.shape(), want) << header;
        // As a whole and from every element on.
        for (int64_t begin = 0; begin < want.elements(); ++begin) {
          std::vector<Memory> values(static_cast<std::size_t>(want.elements() - begin));
          file.copy(begin, want.elements() - begin, values.data());
          for (int64_t k = begin; k < want.elements(); ++k) {
            std::vector<int64_t> index(shape.size());
            int64_t rest = k;
            for (std::size_t a = shape.size(); a-- > 0;) {
              index[a] = rest % shape[a];
              rest /= shape[a];
            }
            ASSERT_EQ(values[static_cast<std::size_t>(k - begin)],
                      static_cast<Memory>(value_at(index)))
                << header << " element " << k << " from " << begin;
          }
        }
      }
    }
  }
}

TEST(Npy, ReadsEveryOrderByteOrderAndType) {
  check_layouts<float, float>('f');
  check_layouts<double, double>('f');
  check_layouts<uint8_t, uint8_t>('u');
  check_layouts<uint8_t, uint8_t>('b');
  check_layouts<int8_t, int32_t>('i');
  check_layouts<int16_t, int32_t>('i');
  check_layouts<uint16_t, int32_t>('u');
  check_layouts<int32_t, int32_t>('i');
  check_layouts<uint32_t, uint32_t>('u');
  check_layouts<int64_t, int64_t>('i');
  check_layouts<uint64_t, uint64_t>('u');
}

TEST(Npy, SmallIntegersKeepTheirSign) {
  const TempDir dir;
  test::put_file(
      dir / "x.npy",
      npy_bytes("{'descr': '|i1', 'fortran_order': False, 'shape': (2,), }", "\xff\x80"));
  const Tensor bytes = read_npy(dir / "x.npy");
  EXPECT_EQ(bytes.as<int32_t>()[0], -1);
  EXPECT_EQ(bytes.as<int32_t>()[1], -128);
  test::put_file(dir / "x.npy",
                 npy_bytes("{'descr': '>i2', 'fortran_order': True, 'shape': (1L, 2L), }",
                           "\xff\xfe\x80\x01"));
  const Tensor shorts = read_npy(dir / "x.npy");
  EXPECT_EQ(shorts.shape(), Shape({1, 2}));
  EXPECT_EQ(shorts.as<int32_t>()[0], -2);
  EXPECT_EQ(shorts.as<int32_t>()[1], -32767);
}

TEST(Npy, HalfPrecision) {
  const TempDir dir;
  // 1, -2, 65504 (largest), 2^-24 (smallest), 1/3 rounded, infinity
  test::put_file(dir / "x.npy",
                 npy_bytes("{'descr': '>f2', 'fortran_order': False, 'shape': (6,), }",
                           std::string("\x3c\x00\xc0\x00\x7b\xff\x00\x01\x35\x55\x7c\x00", 12)));
  const NpyFile file(dir / "x.npy");
  ASSERT_EQ(file.dtype(), DType::kF16);
  std::vector<uint16_t> bits(6);
  file.copy(0, 6, bits.data());
  EXPECT_EQ(float_from_f16(bits[0]), 1.0F);
  EXPECT_EQ(float_from_f16(bits[1]), -2.0F);
  EXPECT_EQ(float_from_f16(bits[2]), 65504.0F);
  EXPECT_EQ(float_from_f16(bits[3]), std::ldexp(1.0F, -24));
  EXPECT_EQ(float_from_f16(bits[4]), 0.333251953125F);
  EXPECT_EQ(float_from_f16(bits[5]), std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(float_from_f16(0x7e00)));
}

TEST(Npy, RefusesWhatItCannotRead) {
  const std::string data = raw({1, 2, 3, 4});
  const auto with = [&](const std::string& header) { return refusal(npy_bytes(header, data)); };
  EXPECT_EQ(with("{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }"), "accepted");
  EXPECT_THAT(with("{'descr': '<c8', 'fortran_order': False, 'shape': (2,), }"),
              HasSubstr("elements of type '<c8'; accepted are float16"));
  EXPECT_THAT(with("{'descr': '<f16', 'fortran_order': False, 'shape': (1,), }"),
              HasSubstr("'<f16'"));
  EXPECT_THAT(with("{'descr': '<i3', 'fortran_order': False, 'shape': (4,), }"),
              HasSubstr("'<i3'"));
  EXPECT_THAT(with("{'descr': '', 'fortran_order': False, 'shape': (4,), }"), HasSubstr("''"));
  EXPECT_THAT(with("{'descr': '|O', 'fortran_order': False, 'shape': (2,), }"), HasSubstr("'|O'"));
  EXPECT_THAT(with("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (4,), }"),
              HasSubstr("structured"));
  // One byte on disk, but four or eight in memory.
  EXPECT_THAT(
      with("{'descr': '|i1', 'fortran_order': True, 'shape': (4, 0, 4611686018427387904), }"),
      HasSubstr("overflows"));
  EXPECT_THAT(with("{'descr': '<f4', 'fortran_order': 0, 'shape': (4,), }"),
              HasSubstr("neither True nor False"));
  EXPECT_THAT(with("{'descr': '<f4', 'fortran_order': False, 'shape': (5,), }"),
              HasSubstr("truncated"));
  EXPECT_THAT(with("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }"),
              HasSubstr("12 bytes of data, but holds 16"));
  EXPECT_THAT(with("{'descr': '<f4', 'fortran_order': False, 'shape': (-4,), }"),
              HasSubstr("sizes from 0"));
  EXPECT_THAT(with("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }"),
              HasSubstr("sizes from 0"));
  EXPECT_THAT(with("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }"),
              HasSubstr("overflows"));
  EXPECT_THAT(
      with("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4294967296, 4294967296), }"),
      HasSubstr("overflows"));
  EXPECT_THAT(with("{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,4), }"),
              HasSubstr("more than 6"));
  EXPECT_THAT(with("{'descr': '<f4', 'descr': '<f4', 'shape': (4,), }"), HasSubstr("twice"));
  EXPECT_THAT(with("{'descr': '<f4', 'fortran_order': False}"), HasSubstr("lacks"));
  EXPECT_THAT(with("{'descr': '<f4', 'fortran_order': False, 'shape': (4,), 'x': 1}"),
              HasSubstr("unknown key"));
  EXPECT_THAT(with("{'descr': '<f4', 'fortran_order': False, 'shape': (4,), } x"),
              HasSubstr("after its end"));
  EXPECT_THAT(with("{'descr"), HasSubstr("does not end"));
  EXPECT_THAT(refusal(""), HasSubstr("not an .npy file"));
  EXPECT_THAT(refusal("PK\3\4 an npz archive is a zip file"), HasSubstr("not an .npy file"));
  std::string version =
      npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }", data);
  version[6] = 4;
  EXPECT_THAT(refusal(version), HasSubstr("version 4.0"));
  std::string length =
      npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }", data, 2);
  length[10] = 127;
  EXPECT_THAT(refusal(length), HasSubstr("at most"));
}

TEST(Npy, EveryTruncationIsRefusedAndEveryBitFlipSurvived) {
  const std::string whole =
      npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }", raw({1, 2, 3, 4}));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_NE(refusal(whole.substr(0, size)), "accepted") << size;
  }
  EXPECT_NE(refusal(whole + "x"), "accepted");
  int accepted = 0;
  for (std::size_t bit = 0; bit < (whole.size() - 16) * 8; ++bit) {
    std::string flipped = whole;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    accepted += refusal(flipped) == "accepted" ? 1 : 0;
  }
  // '<f4' -> '<i4', a space into a tab: few changes give another valid file of the same size.
  EXPECT_LT(accepted, 80);
}

TEST(Npy, PartsOfLargeFiles) {
  const TempDir dir;
  NpyWriter writer(dir / "x.npy", Shape{100, 3}, DType::kF32);
  for (int i = 0; i < 100; ++i) {
    const std::vector<float> row = {static_cast<float>(i), 0.5F, -1.0F};
    writer.write(std::as_bytes(std::span(row)));
  }
  writer.commit();
  const NpyFile file(dir / "x.npy");
  EXPECT_EQ(file.shape(), Shape({100, 3}));
  std::vector<float> part(6);
  file.copy(97 * 3, 6, part.data());
  EXPECT_EQ(part, (std::vector<float>{97, 0.5F, -1, 98, 0.5F, -1}));
  EXPECT_THROW(file.copy(99 * 3, 4, part.data()), InternalError);

  NpyWriter incomplete(dir / "y.npy", Shape{2}, DType::kF32);
  EXPECT_THROW(incomplete.commit(), InternalError);
  EXPECT_FALSE(std::filesystem::exists(dir / "y.npy"));
}

TEST(Npy, DamagedFilesAreReadOrRefused) {
  const TempDir dir;
  const std::string file =
      npy_bytes("{'descr': '>f4', 'fortran_order': True, 'shape': (2, 3, 4), }",
                raw(std::vector<float>(24, 1.5F)));
  const auto counts = test::read_mutated(dir / "damaged.npy", file, {.seed = 11, .rounds = 1500},
                                         [&] { read_npy(dir / "damaged.npy"); });
  EXPECT_GT(counts.refused, 500);
}

}  // namespace
}  // namespace stemfabric
