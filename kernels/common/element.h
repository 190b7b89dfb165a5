// Ops whose activations are f32 or bf16.
#pragma once

#include "runtime/core/bf16.h"
#include "runtime/core/tensor_view.h"

namespace stemfabric {

// The element type that an op's activations must have: that of the one that leads, if the op knows
// it, else f32.
inline DType activation_dtype(const ConstTensorView& view) {
  return view && view.dtype() == DType::kBF16 ? DType::kBF16 : DType::kF32;
}

// body.template operator()<T>() with T = float or Bf16.
template <typename Body>
auto with_element(DType dtype, const Body& body) {
  return dtype == DType::kBF16 ? body.template operator()<Bf16>()
                               : body.template operator()<float>();
}

}  // namespace stemfabric
