// NumPy .npy files, versions 1.0 to 3.0, of floats, integers and bool, in C or Fortran order, of
// either byte order. However a file lies on disk, its elements are read in row-major order and in
// the machine's types: float16 (its bits), float32, float64; bool and uint8 as u8; int8, int16,
// uint16 and int32 as i32; uint32, int64, uint64. Anything else, a wrong size or a truncated file
// is an InputError that names the file and what is wrong. Written: C order, little-endian.
#pragma once

#include <filesystem>
#include <span>

#include "runtime/io/file.h"
#include "runtime/io/npy_header.h"
#include "runtime/memory/buffer.h"

namespace stemfabric {

Tensor read_npy(const std::filesystem::path& path);
void write_npy(const std::filesystem::path& path, const ConstTensorView& tensor);  // atomic

// A mapped file whose elements are copied out in parts, for arrays larger than memory. The data of
// a file need not be aligned, so it offers no view.
class NpyFile {
 public:
  explicit NpyFile(const std::filesystem::path& path);
  const std::filesystem::path& path() const { return file_.path(); }
  const Shape& shape() const { return header_.shape; }
  DType dtype() const { return npy_dtype(header_.element); }
  // Elements [begin, begin + count) in row-major order, of dtype().
  void copy(int64_t begin, int64_t count, void* to) const;

 private:
  MappedFile file_;
  NpyHeader header_;
};

// Writes an array of known shape part by part. commit() insists that all of it was written.
class NpyWriter {
 public:
  NpyWriter(const std::filesystem::path& path, const Shape& shape, DType dtype);
  void write(std::span<const std::byte> elements);
  void commit();

 private:
  AtomicFile file_;
  std::filesystem::path path_;
  uint64_t expected_ = 0;  // bytes of the whole file
};

}  // namespace stemfabric
