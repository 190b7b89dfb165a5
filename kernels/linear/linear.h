// Dense layer with fused bias and activation, and its two gradients.
//
//   forward          y  = act(x · kernel + bias + row_bias[m mod P])
//   backward_input   dx = act'(saved) ∘ (dy · kernelᵀ)            (+= if accumulate)
//   backward_kernel  dkernel += xᵀ · dy,   dbias += Σ_m dy
//
//   tensor                 | shape  | dtype | written    | note
//   x, kernel, dy          |        | X     |            | the factors of the products
//   x                      | [M, K] |       |            |
//   kernel                 | [K, N] |       |            | may be a column slice of a wider one
//   dy                     | [M, N] |       |            |
//   y                      | [M, N] | Y     | =          |
//   bias                   | [N]    | Y     |            | optional
//   row_bias               | [P, N] | Y     |            | optional; row m gets row m mod P
//   pre_activation         | [M, N] | Y     | =          | optional: before the activation
//   dx                     | [M, K] | Y     | = or +=    |
//   saved                  | [M, K] | Y     |            | with input_activation
//   relu_mask              | [M, relu_mask_bytes(N or K)] u8 | = | optional, with kRelu; see below
//   dkernel                | [K, N] | f32   | +=         |
//   dbias                  | [N]    | f32   | +=         | optional
// X is f32 or bf16. Y is f32, or bf16 where X is. Rows may be strided (last stride 1). Products and
// sums accumulate in float32; with Y = bf16 what is written is rounded to it, and where a step of
// its own adds a bias or takes an activation (docs/precision.md), so is what that step reads.
// Deterministic: the same bits for any number of threads.
// Saved for backward: the output for kRelu, the pre-activation for kReluQuantum.
//
// A GPU's product can write the bits y > 0 along with y, and the product of the gradient read them
// in the place of `saved`, so that no kernel has to go over dx again. Whether the forward wrote
// them it says in *relu_mask_written; only then is the mask to be given to backward_input. In which
// order the bits lie is the library's own business. The CPU writes none. At a multiple of 16 bytes;
// with one layer and kRelu only.
//
// Several layers of the same sizes in one call: every tensor that is given has a first dimension S
// more ([S, M, K], [S, K, N], [S, N], …), of any stride. The same as S calls, on a GPU as one
// batched product.
#pragma once

#include "kernels/activation/activation.h"
#include "runtime/core/tensor_view.h"
#include "runtime/device/execution_context.h"

namespace stemfabric {

inline int64_t relu_mask_bytes(int64_t columns) { return (columns + 127) / 128 * 16; }

struct LinearForwardArgs {
  ConstTensorView x;
  ConstTensorView kernel;
  ConstTensorView bias;
  ConstTensorView row_bias;
  TensorView y;
  TensorView pre_activation;
  Activation activation = Activation::kNone;
  QuantumCoefficients quantum;
  TensorView relu_mask;
  bool* relu_mask_written = nullptr;  // with relu_mask
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
  ConstTensorView relu_mask;  // beside saved; not with accumulate
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
