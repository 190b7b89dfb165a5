// Non-owning views: pointer, dtype, shape, strides (in elements). What every op takes.
// A view never allocates; its memory must outlive it. An empty view (no data) marks an absent
// optional argument.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <type_traits>

#include "runtime/core/check.h"
#include "runtime/core/dtype.h"
#include "runtime/core/shape.h"

namespace stemfabric {

namespace detail {
[[noreturn]] void wrong_dtype(DType have, DType want);
}

template <bool kConst>
class BasicTensorView {
 public:
  using Pointer = std::conditional_t<kConst, const void*, void*>;
  template <typename T>
  using Element = std::conditional_t<kConst, const T, T>;
  using Strides = std::array<int64_t, Shape::kMaxRank>;

  BasicTensorView() = default;
  BasicTensorView(Pointer data, DType dtype, const Shape& shape);  // contiguous, row-major
  BasicTensorView(Pointer data, DType dtype, const Shape& shape, const Strides& strides);
  template <typename T>
  BasicTensorView(T* data, const Shape& shape) requires(!std::is_void_v<T>)
      : BasicTensorView(data, kDTypeOf<std::remove_const_t<T>>, shape) {}
  // A mutable view is also a read-only one. (A template, so that it is no copy constructor: views
  // of either kind keep the implicit ones.)
  template <bool kOther>
  BasicTensorView(const BasicTensorView<kOther>& other)  // NOLINT(google-explicit-constructor)
      requires(kConst && !kOther)
      : BasicTensorView(other.data(), other.dtype(), other.shape(), other.strides()) {}

  explicit operator bool() const { return data_ != nullptr; }
  Pointer data() const { return data_; }
  // The pointer as T*; an InternalError if the dtype is another.
  template <typename T>
  Element<T>* as() const {
    if (dtype_ != kDTypeOf<T>) {
      detail::wrong_dtype(dtype_, kDTypeOf<T>);
    }
    return static_cast<Element<T>*>(data_);
  }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  int64_t dim(int axis) const { return shape_[axis]; }
  int64_t elements() const { return shape_.elements(); }
  std::size_t bytes() const { return static_cast<std::size_t>(elements()) * dtype_size(dtype_); }
  const Strides& strides() const { return strides_; }
  int64_t stride(int axis) const {
    return strides_[static_cast<std::size_t>(axis < 0 ? axis + rank() : axis)];
  }
  bool contiguous() const;
  // The same memory with another shape; the view must be contiguous and the element counts equal.
  BasicTensorView reshape(const Shape& shape) const;
  // Elements [begin, begin+size) of one axis.
  BasicTensorView slice(int axis, int64_t begin, int64_t size) const;

 private:
  Pointer data_ = nullptr;
  DType dtype_ = DType::kF32;
  Shape shape_;
  Strides strides_{};
};

using TensorView = BasicTensorView<false>;
using ConstTensorView = BasicTensorView<true>;
extern template class BasicTensorView<false>;
extern template class BasicTensorView<true>;

// Checks an argument of an op by name: dtype and shape, -1 matches any size.
// Throws an InternalError "attention_forward: q has shape [2, 3] f32; expected [B, 8] f32".
void check_tensor(const char* op, const char* name, const ConstTensorView& view, DType dtype,
                  std::initializer_list<int64_t> shape);

}  // namespace stemfabric
