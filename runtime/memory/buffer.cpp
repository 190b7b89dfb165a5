#include "runtime/memory/buffer.h"

#include <algorithm>
#include <cstring>

namespace stemfabric {

Buffer::Buffer(MemoryResource& resource, std::size_t bytes, const char* purpose)
    : resource_(&resource), bytes_(bytes) {
  // One byte at least, so that a tensor without elements is still present.
  data_ = resource.allocate(std::max<std::size_t>(bytes, 1), purpose);
}

Buffer::~Buffer() {
  if (data_ != nullptr) {
    resource_->deallocate(data_, std::max<std::size_t>(bytes_, 1));
  }
}

Buffer::Buffer(Buffer&& other) noexcept
    : resource_(other.resource_),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(resource_, other.resource_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Tensor::Tensor(const Shape& shape, DType dtype, MemoryResource& resource, const char* purpose)
    : shape_(shape),
      dtype_(dtype),
      buffer_(resource, static_cast<std::size_t>(shape.elements()) * dtype_size(dtype), purpose) {}

Tensor Tensor::zeros(const Shape& shape, DType dtype) {
  Tensor tensor(shape, dtype);
  std::memset(tensor.buffer_.data(), 0, tensor.buffer_.bytes());
  return tensor;
}

}  // namespace stemfabric
