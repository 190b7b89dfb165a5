#include "runtime/io/npy_header.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
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

struct Fields {
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

  Fields parse() {
    Fields header;
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
    pos_ += pos_ < text_.size() && text_[pos_] == 'L' ? 1 : 0;  // numpy on Python 2: (3L, 4L)
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

// "<f4", ">i8", "|b1": byte order, kind, bytes. Nothing for what is not read.
std::optional<NpyElement> parse_descr(std::string_view descr) {
  NpyElement element;
  if (!descr.empty() && std::string_view("<>|=").find(descr.front()) != std::string_view::npos) {
    element.big_endian = descr.front() == '>';
    descr.remove_prefix(1);
  }
  if (descr.size() != 2) {
    return std::nullopt;
  }
  element.kind = descr[0];
  element.bytes = static_cast<std::size_t>(descr[1] - '0');
  const std::size_t n = element.bytes;
  const bool known =
      (element.kind == 'f' && (n == 2 || n == 4 || n == 8)) ||
      ((element.kind == 'i' || element.kind == 'u') && (n == 1 || n == 2 || n == 4 || n == 8)) ||
      (element.kind == 'b' && n == 1);
  return known ? std::optional(element) : std::nullopt;
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

// Finds the dict's text after magic, version and length; `data_begin` is where it ends.
std::string_view header_text(std::string_view text, const std::filesystem::path& path,
                             std::size_t& data_begin) {
  if (text.size() < 10 || text.substr(0, kMagic.size()) != kMagic) {
    refuse(path, text.empty() ? "is not an .npy file: it is empty"
                              : "is not an .npy file (its first bytes are not \\x93NUMPY, or it "
                                "is truncated); save arrays with numpy.save");
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
  data_begin = prefix + length;
  return text.substr(prefix, length);
}

// Bytes that elements of such a shape take.
uint64_t data_size(const std::vector<int64_t>& dims, std::size_t item,
                   const std::filesystem::path& path) {
  // Zeros must not hide sizes whose strides overflow, so they count as one here. As read, elements
  // may be wider than in the file, but never wider than eight bytes.
  int64_t widest = 8;
  int64_t size = static_cast<int64_t>(item);
  bool empty = false;
  for (const int64_t dim : dims) {
    const int64_t factor = std::max<int64_t>(dim, 1);
    if (__builtin_mul_overflow(widest, factor, &widest)) {
      refuse(path, "has a shape whose size overflows 64 bits");
    }
    size *= factor;
    empty = empty || dim == 0;
  }
  return empty ? 0 : static_cast<uint64_t>(size);
}

}  // namespace

NpyHeader parse_npy_header(std::span<const std::byte> file, const std::filesystem::path& path) {
  NpyHeader header;
  const std::string_view all(reinterpret_cast<const char*>(file.data()), file.size());
  const std::string_view text = header_text(all, path, header.data_begin);
  const Fields fields = HeaderParser(text, path).parse();
  const auto element = parse_descr(fields.descr);
  if (!element) {
    refuse(path,
           fmt::format("has elements of type '{}'; accepted are float16, float32, float64, bool "
                       "and integers of up to 64 bits",
                       printable(fields.descr)));
  }
  header.element = *element;
  header.fortran_order = fields.fortran_order;
  const uint64_t size = data_size(fields.shape, element->bytes, path);
  header.shape = Shape(fields.shape);
  const uint64_t have = file.size() - header.data_begin;
  if (size != have) {
    refuse(path, fmt::format("has shape {} of {}-byte elements, that is {} bytes of data, but "
                             "holds {}{}",
                             header.shape.to_string(), element->bytes, size, have,
                             have < size ? ": it is truncated" : ""));
  }
  return header;
}

std::string make_npy_header(const Shape& shape, DType dtype) {
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

DType npy_dtype(const NpyElement& element) {
  switch (element.kind) {
    case 'f':
      return element.bytes == 2 ? DType::kF16 : element.bytes == 4 ? DType::kF32 : DType::kF64;
    case 'i':
      return element.bytes == 8 ? DType::kI64 : DType::kI32;
    case 'u':
      return element.bytes == 8   ? DType::kU64
             : element.bytes == 4 ? DType::kU32
             : element.bytes == 2 ? DType::kI32
                                  : DType::kU8;
    default:
      return DType::kU8;  // bool
  }
}

}  // namespace stemfabric
