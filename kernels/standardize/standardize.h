// Standardised features: y = (x − mean) · scale, per column.
//
//   tensor      | shape  | dtype | written | note
//   x           | [M, C] | f32   |         | contiguous
//   mean, scale | [C]    | f32   |         |
//   y           | [M, C] | f32 or bf16 | =   | contiguous; f32: may be the same memory as x
// Deterministic. The subtraction comes first, so that a large mean costs no accuracy. There is no
// backward: inputs and their statistics are data.
#pragma once

#include "runtime/core/tensor_view.h"
#include "runtime/device/execution_context.h"

namespace stemfabric {

struct StandardizeArgs {
  ConstTensorView x, mean, scale;
  TensorView y;
};
void standardize(const ExecutionContext& ctx, const StandardizeArgs& args);

}  // namespace stemfabric
