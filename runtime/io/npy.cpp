#include "runtime/io/npy.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "runtime/core/check.h"

namespace stemfabric {
namespace {

const std::filesystem::path& existing(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    throw InputError("there is no array {}; check the path", path.string());
  }
  if (!std::filesystem::is_regular_file(path, error)) {
    throw InputError("{}: is a folder, a device or a pipe; give an .npy file", path.string());
  }
  return path;
}

// Elements [begin, begin + count) in row-major order of data whose first axis varies fastest:
// `visit(k)` gets the place of each in the file.
template <typename Visit>
void visit_fortran_order(const Shape& shape, int64_t begin, int64_t count, const Visit& visit) {
  const int rank = shape.rank();
  std::array<int64_t, Shape::kMaxRank> index{};
  std::array<int64_t, Shape::kMaxRank> stride{};
  int64_t at = 0;
  int64_t step = 1;
  for (int axis = 0; axis < rank; ++axis) {
    stride[static_cast<std::size_t>(axis)] = step;
    step *= shape[axis];
  }
  int64_t rest = begin;
  for (int axis = rank - 1; axis >= 0; --axis) {
    const auto a = static_cast<std::size_t>(axis);
    index[a] = rest % shape[axis];
    rest /= shape[axis];
    at += index[a] * stride[a];
  }
  const auto dims = shape.dims();
  for (int64_t i = 0; i < count; ++i) {
    visit(at);
    for (int axis = rank - 1; axis >= 0; --axis) {
      const auto a = static_cast<std::size_t>(axis);
      at += stride[a];
      if (++index[a] < dims[a]) {
        break;
      }
      at -= stride[a] * dims[a];
      index[a] = 0;
    }
  }
}

template <typename T>
T byte_swapped(T value) {
  std::array<std::byte, sizeof(T)> bytes;
  std::memcpy(bytes.data(), &value, sizeof(T));
  std::ranges::reverse(bytes);
  std::memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

// Copies elements that are From in the file and To (no narrower) in memory.
template <typename From, typename To>
void copy_elements(const NpyHeader& header, const std::byte* data, int64_t begin, int64_t count,
                   void* to) {
  auto* out = static_cast<To*>(to);
  const auto take = [&](int64_t k) {
    From value;
    std::memcpy(&value, data + static_cast<std::size_t>(k) * sizeof(From), sizeof(From));
    *out++ = static_cast<To>(header.element.big_endian ? byte_swapped(value) : value);
  };
  if (header.fortran_order) {
    visit_fortran_order(header.shape, begin, count, take);
    return;
  }
  for (int64_t k = begin; k < begin + count; ++k) {
    take(k);
  }
}

}  // namespace

NpyFile::NpyFile(const std::filesystem::path& path)
    : file_(existing(path)), header_(parse_npy_header(file_.bytes(), path)) {}

void NpyFile::copy(int64_t begin, int64_t count, void* to) const {
  SF_CHECK(begin >= 0 && count >= 0 && begin <= shape().elements() - count,
           "elements {} to {} of {}", begin, begin + count, path().string());
  if (count == 0) {
    return;
  }
  const NpyElement& element = header_.element;
  const std::byte* data = file_.bytes().data() + header_.data_begin;
  const bool widened = element.bytes != dtype_size(dtype());
  if (!header_.fortran_order && !element.big_endian && !widened) {
    std::memcpy(to, data + static_cast<std::size_t>(begin) * element.bytes,
                static_cast<std::size_t>(count) * element.bytes);
  } else if (widened) {  // to i32
    const auto copy = element.bytes == 1    ? copy_elements<int8_t, int32_t>
                      : element.kind == 'i' ? copy_elements<int16_t, int32_t>
                                            : copy_elements<uint16_t, int32_t>;
    copy(header_, data, begin, count, to);
  } else {
    const auto copy = element.bytes == 1   ? copy_elements<uint8_t, uint8_t>
                      : element.bytes == 2 ? copy_elements<uint16_t, uint16_t>
                      : element.bytes == 4 ? copy_elements<uint32_t, uint32_t>
                                           : copy_elements<uint64_t, uint64_t>;
    copy(header_, data, begin, count, to);
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
  const std::string header = make_npy_header(shape, dtype);
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
