// Elementwise activations.
//
//   relu          y = max(x, 0)
//   relu_quantum  y = q(max(x, 0)),  q(r) = a·sigmoid(r) + b·tanh(r) + c·r   (r >= 0)
//                 default (a, b, c) = (0.4, 0.4, 0.2), the head activation of the stem model
//
// Derivatives at x <= 0 are 0. Source: quantum activation of the original separator.
//
//   tensor | shape | dtype | written
//   x, y   | any, equal, contiguous | f32 or bf16 |  y =
//   dy, dx | as x                   | as x        |  dx =   (may be the same memory as dy)
// Computed in float32. Deterministic. Saved for backward: x (the pre-activation).
#pragma once

#include "runtime/core/tensor_view.h"
#include "runtime/device/execution_context.h"

namespace stemfabric {

enum class Activation : uint8_t { kNone, kRelu, kReluQuantum };

struct QuantumCoefficients {
  float sigmoid = 0.4f;
  float tanh = 0.4f;
  float relu = 0.2f;
};

struct ActivationForwardArgs {
  Activation activation = Activation::kNone;
  QuantumCoefficients quantum;
  ConstTensorView x;
  TensorView y;
};
void activation_forward(const ExecutionContext& ctx, const ActivationForwardArgs& args);

struct ActivationBackwardArgs {
  Activation activation = Activation::kNone;
  QuantumCoefficients quantum;
  ConstTensorView x;
  ConstTensorView dy;
  TensorView dx;
};
void activation_backward(const ExecutionContext& ctx, const ActivationBackwardArgs& args);

}  // namespace stemfabric
