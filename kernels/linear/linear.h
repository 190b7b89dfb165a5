// Dense layer with fused bias and activation, and its two gradients.
//
//   forward          y  = act(x · kernel + bias + row_bias[m mod P])
//   backward_input   dx = act'(saved) ∘ (dy · kernelᵀ)            (+= if accumulate)
//   backward_kernel  dkernel += xᵀ · dy,   dbias += Σ_m dy
//
//   tensor          | shape  | dtype | written        | note
//   x, dx           | [M, K] | f32   | dx = or +=     | rows may be strided (last stride 1)
//   kernel, dkernel | [K, N] | f32   | dkernel +=     | rows may be strided: a column slice of a
//   wider kernel bias, dbias     | [N]    | f32   | dbias +=       | optional row_bias        | [P,
//   N] | f32   |                | optional; added to row m at m mod P (positions) y, dy           |
//   [M, N] | f32   | y =            | rows may be strided pre_activation  | [M, N] | f32   | = |
//   optional: the value before the activation
// Products accumulate in float32. Deterministic: the same bits for any number of threads.
// Saved for backward: the output for kRelu, the pre-activation for kReluQuantum.
#pragma once

#include "kernels/activation/activation.h"
#include "runtime/core/tensor_view.h"
#include "runtime/device/execution_context.h"

namespace stemfabric {

struct LinearForwardArgs {
  ConstTensorView x;
  ConstTensorView kernel;
  ConstTensorView bias;
  ConstTensorView row_bias;
  TensorView y;
  TensorView pre_activation;
  Activation activation = Activation::kNone;
  QuantumCoefficients quantum;
};
void linear_forward(const ExecutionContext& ctx, const LinearForwardArgs& args);

struct LinearBackwardInputArgs {
  ConstTensorView dy;
  ConstTensorView kernel;
  TensorView dx;
  bool accumulate = false;
  // The activation whose output was x of this layer: its derivative multiplies dx. `saved` [M, K]
  // is that activation's output (kRelu) or its pre-activation (kReluQuantum). Not with accumulate.
  Activation input_activation = Activation::kNone;
  QuantumCoefficients quantum;
  ConstTensorView saved;
};
void linear_backward_input(const ExecutionContext& ctx, const LinearBackwardInputArgs& args);

struct LinearBackwardKernelArgs {
  ConstTensorView x;
  ConstTensorView dy;
  TensorView dkernel;
  TensorView dbias;
};
void linear_backward_kernel(const ExecutionContext& ctx, const LinearBackwardKernelArgs& args);

}  // namespace stemfabric
