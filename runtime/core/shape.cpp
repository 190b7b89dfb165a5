#include "runtime/core/shape.h"

#include <algorithm>

#include "runtime/core/check.h"

namespace stemfabric {

Shape::Shape(std::initializer_list<int64_t> dims)
    : Shape(std::span<const int64_t>(dims.begin(), dims.size())) {}

Shape::Shape(std::span<const int64_t> dims) : rank_(static_cast<int>(dims.size())) {
  SF_CHECK(dims.size() <= kMaxRank, "a shape of {} dimensions; at most {} are supported",
           dims.size(), kMaxRank);
  for (std::size_t i = 0; i < dims.size(); ++i) {
    SF_CHECK(dims[i] >= 0, "dimension {} is {}", i, dims[i]);
    dims_[i] = dims[i];
  }
}

int64_t Shape::operator[](int axis) const {
  const int i = axis < 0 ? axis + rank_ : axis;
  SF_CHECK(i >= 0 && i < rank_, "axis {} of shape {}", axis, to_string());
  return dims_[static_cast<std::size_t>(i)];
}

int64_t Shape::elements() const {
  int64_t n = 1;
  for (int64_t dim : dims()) {
    SF_CHECK(!__builtin_mul_overflow(n, dim, &n), "shape {} overflows", to_string());
  }
  return n;
}

std::string Shape::to_string() const {
  std::string text = "[";
  for (int i = 0; i < rank_; ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(dims_[static_cast<std::size_t>(i)]);
  }
  return text + "]";
}

bool Shape::operator==(const Shape& other) const {
  return std::ranges::equal(dims(), other.dims());
}

}  // namespace stemfabric
