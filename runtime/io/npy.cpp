#include "runtime/io/npy.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <optional>
#include <vector>

#include "runtime/core/check.h"

namespace stemfabric {
namespace {

constexpr std::string_view kMagic{"\x93NUMPY", 6};
constexpr std::size_t kMaxHeader = 64 * 1024;  // of ours have about 100 bytes

[[noreturn]] void refuse(const std::filesystem::path& path, const std::string& what) {
  throw InputError("{}: {}", path.string(), what);
}

struct Header {
  std::string descr;
  bool fortran_order = false;
  std::vector<int64_t> shape;
};

// The header is a Python dict literal with exactly three entries:
//   {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::filesystem::path& path)
      : text_(text), path_(path) {}

  Header parse() {
    Header header;
    bool seen[3] = {};
    expect('{');
    while (!take('}')) {
      const std::string key = string();
      expect(':');
      const int field = key == "descr" ? 0 : key == "fortran_order" ? 1 : key == "shape" ? 2 : -1;
      if (field < 0 || seen[field]) {
        bad(field < 0 ? "has an unknown key" : "has a key twice");
      }
      seen[field] = true;
      if (field == 0) {
        skip_space();
        if (pos_ < text_.size() && text_[pos_] == '[') {
          refuse(path_, "holds records (a structured dtype); expected plain numbers");
        }
        header.descr = string();
      } else if (field == 1) {
        header.fortran_order = boolean();
      } else {
        header.shape = tuple();
      }
      if (!take(',')) {
        expect('}');
        break;
      }
    }
    skip_space();
    if (pos_ != text_.size() || !seen[0] || !seen[1] || !seen[2]) {
      bad(pos_ != text_.size() ? "has text after its end" : "lacks descr, fortran_order or shape");
    }
    return header;
  }

 private:
  [[noreturn]] void bad(const std::string& what) const {
    refuse(path_, fmt::format("the .npy header {} (at character {})", what, pos_));
  }
  void skip_space() {
    while (pos_ < text_.size() &&
           (text_[pos_] == ' ' || text_[pos_] == '\n' || text_[pos_] == '\t')) {
      ++pos_;
    }
  }
  bool take(char c) {
    skip_space();
    if (pos_ < text_.size() && text_[pos_] == c) {
      ++pos_;
      return true;
    }
    return false;
  }
  void expect(char c) {
    if (!take(c)) {
      bad(fmt::format("is malformed: expected '{}'", c));
    }
  }
  std::string string() {
    skip_space();
    if (pos_ >= text_.size() || (text_[pos_] != '\'' && text_[pos_] != '"')) {
      bad("is malformed: expected a string");
    }
    const std::size_t end = text_.find(text_[pos_], pos_ + 1);
    if (end == std::string_view::npos) {
      bad("is malformed: a string does not end");
    }
    const std::string value(text_.substr(pos_ + 1, end - pos_ - 1));
    pos_ = end + 1;
    return value;
  }
  bool boolean() {
    skip_space();
    for (const bool value : {true, false}) {
      const std::string_view word = value ? "True" : "False";
      if (text_.substr(pos_, word.size()) == word) {
        pos_ += word.size();
        return value;
      }
    }
    bad("is malformed: fortran_order is neither True nor False");
  }
  int64_t number() {
    skip_space();
    int64_t value = -1;
    const auto [end, error] =
        std::from_chars(text_.data() + pos_, text_.data() + text_.size(), value);
    if (error != std::errc() || value < 0) {
      bad("has a shape with something else than sizes from 0 to 2^63 - 1");
    }
    pos_ = static_cast<std::size_t>(end - text_.data());
    return value;
  }
  std::vector<int64_t> tuple() {
    std::vector<int64_t> sizes;
    expect('(');
    while (!take(')')) {
      sizes.push_back(number());
      if (sizes.size() > Shape::kMaxRank) {
        refuse(path_, fmt::format("has more than {} dimensions", Shape::kMaxRank));
      }
      if (!take(',')) {
        expect(')');
        break;
      }
    }
    return sizes;
  }

  std::string_view text_;
  const std::filesystem::path& path_;
  std::size_t pos_ = 0;
};

std::optional<DType> dtype_of(const std::string& descr) {
  if (descr == "<f4") return DType::kF32;
  if (descr == "<f8") return DType::kF64;
  if (descr == "<i4") return DType::kI32;
  if (descr == "<i8") return DType::kI64;
  if (descr == "|u1" || descr == "<u1" || descr == "|b1") return DType::kU8;
  return std::nullopt;
}

const char* descr_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "<f4";
    case DType::kF64:
      return "<f8";
    case DType::kI32:
      return "<i4";
    case DType::kI64:
      return "<i8";
    case DType::kU8:
      return "|u1";
    default:
      throw InternalError("{} cannot be written as .npy", dtype_name(dtype));
  }
}

// Only printable text goes into messages, and not too much of it.
std::string printable(const std::string& text) {
  std::string result;
  for (const char c : text.substr(0, 40)) {
    result += c >= ' ' && c <= '~' ? c : '?';
  }
  return result;
}

// Version 1.0; total length a multiple of 64, so that the data are aligned when mapped.
std::string header_bytes(const Shape& shape, DType dtype) {
  std::string sizes;
  for (const int64_t size : shape.dims()) {
    sizes += std::to_string(size) + ", ";
  }
  if (shape.rank() > 1) {
    sizes.resize(sizes.size() - 2);  // (3, 4) but (3,)
  } else if (shape.rank() == 1) {
    sizes.pop_back();
  }
  std::string text = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}",
                                 descr_of(dtype), sizes);
  const std::size_t prefix = kMagic.size() + 4;
  text.append((64 - (prefix + text.size() + 1) % 64) % 64, ' ');
  text += '\n';
  std::string bytes(kMagic);
  bytes +=
      {'\x01', '\x00', static_cast<char>(text.size() & 0xff), static_cast<char>(text.size() >> 8)};
  return bytes + text;
}

const std::filesystem::path& existing(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    throw InputError("there is no array {}; check the path", path.string());
  }
  return path;
}

}  // namespace

NpyFile::NpyFile(const std::filesystem::path& path) : file_(existing(path)) {
  const auto bytes = file_.bytes();
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (text.size() < 10 || text.substr(0, 6) != kMagic) {
    refuse(path, "is not an .npy file (its first bytes are not \\x93NUMPY, or it is truncated)");
  }
  const auto byte = [&](std::size_t i) {
    return static_cast<std::size_t>(static_cast<uint8_t>(text[i]));
  };
  const std::size_t major = byte(6);
  if (major < 1 || major > 3 || byte(7) != 0) {
    refuse(path, fmt::format("has .npy version {}.{}; 1.0, 2.0 and 3.0 are known", major, byte(7)));
  }
  const std::size_t prefix = major == 1 ? 10 : 12;
  if (text.size() < prefix) {
    refuse(path, "is truncated inside its header");
  }
  std::size_t length = byte(8) | byte(9) << 8;
  if (major > 1) {
    length |= byte(10) << 16 | byte(11) << 24;
  }
  if (length > kMaxHeader) {
    refuse(path,
           fmt::format("has a header of {} bytes; at most {} are accepted", length, kMaxHeader));
  }
  if (length > text.size() - prefix) {
    refuse(path, "is truncated inside its header");
  }
  const Header header = HeaderParser(text.substr(prefix, length), path).parse();
  const auto dtype = dtype_of(header.descr);
  if (!dtype) {
    refuse(path, fmt::format("has elements of type '{}'; accepted are float32, float64, int32, "
                             "int64, uint8 and bool, little-endian",
                             printable(header.descr)));
  }
  if (header.fortran_order) {
    refuse(path, "is in Fortran order; save it with numpy.ascontiguousarray");
  }
  // Zeros must not hide sizes whose strides overflow, so they count as one here.
  int64_t size = static_cast<int64_t>(dtype_size(*dtype));
  bool empty = false;
  for (const int64_t dim : header.shape) {
    if (__builtin_mul_overflow(size, std::max<int64_t>(dim, 1), &size)) {
      refuse(path, "has a shape whose size overflows 64 bits");
    }
    empty = empty || dim == 0;
  }
  size = empty ? 0 : size;
  data_ = bytes.subspan(prefix + length);
  dtype_ = *dtype;
  shape_ = Shape(header.shape);
  if (static_cast<uint64_t>(size) != data_.size()) {
    refuse(path,
           fmt::format("has shape {} of {}, that is {} bytes of data, but holds {}{}",
                       shape_.to_string(), dtype_name(dtype_), size, data_.size(),
                       data_.size() < static_cast<uint64_t>(size) ? ": it is truncated" : ""));
  }
}

void NpyFile::copy(int64_t begin, int64_t count, void* to) const {
  SF_CHECK(begin >= 0 && count >= 0 && begin <= shape_.elements() - count,
           "elements {} to {} of {}", begin, begin + count, path().string());
  const std::size_t item = dtype_size(dtype_);
  if (count > 0) {
    std::memcpy(to, data_.data() + static_cast<std::size_t>(begin) * item,
                static_cast<std::size_t>(count) * item);
  }
}

Tensor read_npy(const std::filesystem::path& path) {
  const NpyFile file(path);
  Tensor tensor(file.shape(), file.dtype());
  file.copy(0, tensor.elements(), tensor.view().data());
  return tensor;
}

NpyWriter::NpyWriter(const std::filesystem::path& path, const Shape& shape, DType dtype)
    : file_(path), path_(path) {
  const std::string header = header_bytes(shape, dtype);
  expected_ = header.size() + static_cast<uint64_t>(shape.elements()) * dtype_size(dtype);
  file_.write(header);
}

void NpyWriter::write(std::span<const std::byte> elements) { file_.write(elements); }

void NpyWriter::commit() {
  SF_CHECK(file_.written() == expected_, "{}: {} of {} bytes written", path_.string(),
           file_.written(), expected_);
  file_.commit();
}

void write_npy(const std::filesystem::path& path, const ConstTensorView& tensor) {
  SF_CHECK(tensor && tensor.contiguous(), "only contiguous tensors are written as .npy");
  NpyWriter writer(path, tensor.shape(), tensor.dtype());
  writer.write({static_cast<const std::byte*>(tensor.data()), tensor.bytes()});
  writer.commit();
}

}  // namespace stemfabric
