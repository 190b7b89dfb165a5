// Copies between element types: y = x, rounded to nearest (ties to even) where y is narrower.
//
//   tensor | shape             | dtype       | written | note
//   x      | any, contiguous   | f32 or bf16 |         |
//   y      | as x, contiguous  | the other   | =       |
// A NaN becomes the bf16 0x7FFF. Deterministic.
#pragma once

#include "runtime/core/tensor_view.h"
#include "runtime/device/execution_context.h"

namespace stemfabric {

struct CastArgs {
  ConstTensorView x;
  TensorView y;
};
void cast(const ExecutionContext& ctx, const CastArgs& args);

}  // namespace stemfabric
