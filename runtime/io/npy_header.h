// The header of a .npy file: reading all that numpy writes for plain numbers, writing ours.
// Format: numpy.lib.format.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

#include "runtime/core/dtype.h"
#include "runtime/core/shape.h"

namespace stemfabric {

// An element as it lies in the file.
struct NpyElement {
  char kind = 'f';  // f: float, i: signed, u: unsigned, b: bool
  std::size_t bytes = 4;
  bool big_endian = false;

  bool operator==(const NpyElement&) const = default;
};

struct NpyHeader {
  NpyElement element;
  bool fortran_order = false;  // the first axis varies fastest
  Shape shape;
  std::size_t data_begin = 0;  // where the elements begin in the file
};

// Checks everything, also that the elements fill the rest of the file exactly. InputError with
// `path` and what is wrong.
NpyHeader parse_npy_header(std::span<const std::byte> file, const std::filesystem::path& path);

// Version 1.0, C order, little-endian; the length is a multiple of 64, so that the data are aligned
// when mapped.
std::string make_npy_header(const Shape& shape, DType dtype);

// The type that elements are read as: the smallest of ours that holds them all.
DType npy_dtype(const NpyElement& element);

}  // namespace stemfabric
