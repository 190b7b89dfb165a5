#include "runtime/core/tensor_view.h"

namespace stemfabric {

namespace detail {
void wrong_dtype(DType have, DType want) {
  throw InternalError("a tensor of dtype {} was read as {}", dtype_name(have), dtype_name(want));
}
}  // namespace detail

template <bool kConst>
BasicTensorView<kConst>::BasicTensorView(Pointer data, DType dtype, const Shape& shape)
    : data_(data), dtype_(dtype), shape_(shape) {
  int64_t stride = 1;
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    strides_[static_cast<std::size_t>(axis)] = stride;
    stride *= shape[axis];
  }
}

template <bool kConst>
BasicTensorView<kConst>::BasicTensorView(Pointer data, DType dtype, const Shape& shape,
                                         const Strides& strides)
    : data_(data), dtype_(dtype), shape_(shape), strides_(strides) {}

template <bool kConst>
bool BasicTensorView<kConst>::contiguous() const {
  int64_t expected = 1;
  for (int axis = rank() - 1; axis >= 0; --axis) {
    if (dim(axis) != 1 && stride(axis) != expected) {
      return false;
    }
    expected *= dim(axis);
  }
  return true;
}

template <bool kConst>
BasicTensorView<kConst> BasicTensorView<kConst>::reshape(const Shape& shape) const {
  SF_CHECK(contiguous(), "reshape of a strided view of shape {}", shape_.to_string());
  SF_CHECK(shape.elements() == elements(), "{} cannot become {}", shape_.to_string(),
           shape.to_string());
  return BasicTensorView(data_, dtype_, shape);
}

template <bool kConst>
BasicTensorView<kConst> BasicTensorView<kConst>::slice(int axis, int64_t begin,
                                                       int64_t size) const {
  const int a = axis < 0 ? axis + rank() : axis;
  SF_CHECK(begin >= 0 && size >= 0 && begin + size <= dim(a), "slice [{}, +{}) of axis {} of {}",
           begin, size, axis, shape_.to_string());
  std::array<int64_t, Shape::kMaxRank> dims{};
  for (int i = 0; i < rank(); ++i) {
    dims[static_cast<std::size_t>(i)] = i == a ? size : dim(i);
  }
  using Byte = std::conditional_t<kConst, const std::byte, std::byte>;
  auto* first =
      static_cast<Byte*>(data_) + begin * stride(a) * static_cast<int64_t>(dtype_size(dtype_));
  return BasicTensorView(
      first, dtype_, Shape(std::span<const int64_t>(dims.data(), static_cast<std::size_t>(rank()))),
      strides_);
}

template class BasicTensorView<false>;
template class BasicTensorView<true>;

void check_tensor(const char* op, const char* name, const ConstTensorView& view, DType dtype,
                  std::initializer_list<int64_t> shape) {
  const auto text = [&] {
    std::string out = "[";
    for (auto it = shape.begin(); it != shape.end(); ++it) {
      out += (it == shape.begin() ? "" : ", ") + (*it < 0 ? "any" : std::to_string(*it));
    }
    return out + "]";
  };
  if (!view) {
    throw InternalError("{}: {} is missing; expected {} {}", op, name, text(), dtype_name(dtype));
  }
  bool matches = view.dtype() == dtype && view.rank() == static_cast<int>(shape.size());
  int axis = 0;
  for (int64_t want : shape) {
    if (!matches) {
      break;
    }
    matches = want < 0 || view.dim(axis) == want;
    ++axis;
  }
  if (!matches) {
    throw InternalError("{}: {} has shape {} {}; expected {} {}", op, name,
                        view.shape().to_string(), dtype_name(view.dtype()), text(),
                        dtype_name(dtype));
  }
}

}  // namespace stemfabric
