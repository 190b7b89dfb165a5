// Decides where the gradient lies whether a training step is made, and with which numbers, so that
// the host need not wait for losses and gradient before it launches the optimiser.
//
//   apply      = 1 if squares[1] = 0 and every element of loss and weighted is finite, else 0
//   norm       = √squares[0],  NaN if squares[1] ≠ 0
//   grad_scale = clip / norm if clip > 0 and norm > clip, else 1
//   gate       = (grad_scale, apply, norm)                      for adam_step and ema_update
//   t          = steps = steps + apply
//   scalars    = (lr, 1 − β1ᵗ, 1 − β2ᵗ)                          for adam_step
// One step is  sum_squares_into → step_control → adam_step → ema_update:  if apply is 0, it changes
// neither parameters nor moments nor average nor the number of steps.
//
//   tensor         | shape | dtype | written | note
//   squares        | [3]   | f64   |         | of sum_squares_into, of the whole gradient
//   loss, weighted | [n]   | f64   |         | optional, of stem_loss
//   gate           | [3]   | f64   | =       |
//   lr             | [1]   | f64   |         | optional, as the next two: all or none of them
//   steps          | [1]   | f64   | +=      | steps made so far, a whole number
//   scalars        | [3]   | f64   | =       |
// All contiguous. Deterministic. Where several ranks train together, squares and losses must be
// those of all of them, so that all decide alike.
#pragma once

#include "runtime/core/tensor_view.h"
#include "runtime/device/execution_context.h"

namespace stemfabric {

struct StepControlArgs {
  ConstTensorView squares, loss, weighted;
  double clip = 0;  // 0: no clipping
  TensorView gate;

  ConstTensorView lr;
  double beta1 = 0.9;
  double beta2 = 0.999;
  TensorView steps, scalars;
};
void step_control(const ExecutionContext& ctx, const StepControlArgs& args);

}  // namespace stemfabric
