// NumPy .npy files, versions 1.0 to 3.0, C order, little-endian f4 f8 i4 i8 u1 (bool reads as u1).
// Anything else, a wrong size or a truncated file is an InputError that names the file and what is
// wrong. Format: numpy.lib.format.
#pragma once

#include <filesystem>
#include <span>

#include "runtime/io/file.h"
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
  const Shape& shape() const { return shape_; }
  DType dtype() const { return dtype_; }
  // Elements [begin, begin + count) in row-major order, as they are in the file.
  void copy(int64_t begin, int64_t count, void* to) const;

 private:
  MappedFile file_;
  Shape shape_;
  DType dtype_ = DType::kF32;
  std::span<const std::byte> data_;
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
