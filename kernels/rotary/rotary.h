// Rotary position embedding of queries and keys, in place.
//
//   for pair i < D/2 of token t:  (x[i], x[i + D/2]) is turned by the angle t · base^(−2i/D)
// `inverse` turns back: that is also the gradient.
//
//   tensor | shape        | dtype       | written  | note
//   x      | [B, T, H, D] | f32 or bf16 | in place | any strides, last stride 1; D even
// Deterministic. Source: Su et al., "RoFormer", 2021 (half-split pairing).
#pragma once

#include "runtime/core/tensor_view.h"
#include "runtime/device/execution_context.h"

namespace stemfabric {

struct RotaryArgs {
  TensorView x;
  double base = 10000.0;
  bool inverse = false;
};
void rotary(const ExecutionContext& ctx, const RotaryArgs& args);

}  // namespace stemfabric
