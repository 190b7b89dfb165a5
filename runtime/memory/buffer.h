// Owned bytes of a memory resource, and owned tensors.
#pragma once

#include <cstddef>
#include <utility>

#include "runtime/core/tensor_view.h"
#include "runtime/memory/memory_resource.h"

namespace stemfabric {

class Buffer {
 public:
  Buffer() = default;
  // Contents are undefined. `purpose`: see MemoryResource::allocate.
  Buffer(MemoryResource& resource, std::size_t bytes, const char* purpose);
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  MemoryResource* resource_ = nullptr;
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

// A contiguous tensor that owns its memory.
class Tensor {
 public:
  Tensor() = default;
  Tensor(const Shape& shape, DType dtype, MemoryResource& resource = host_resource(),
         const char* purpose = "tensor");
  // Zero-filled host tensor.
  static Tensor zeros(const Shape& shape, DType dtype);

  TensorView view() { return {buffer_.data(), dtype_, shape_}; }
  ConstTensorView view() const { return {buffer_.data(), dtype_, shape_}; }
  template <typename T>
  T* as() {
    return view().as<T>();
  }
  template <typename T>
  const T* as() const {
    return view().as<T>();
  }
  const Shape& shape() const { return shape_; }
  DType dtype() const { return dtype_; }
  int64_t elements() const { return shape_.elements(); }
  std::size_t bytes() const { return buffer_.bytes(); }
  explicit operator bool() const { return buffer_.data() != nullptr; }

 private:
  Shape shape_;
  DType dtype_ = DType::kF32;
  Buffer buffer_;
};

}  // namespace stemfabric
