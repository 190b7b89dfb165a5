// Adam and AdamW over one block of parameters, and the exponential moving average of the weights.
//
//   g = grad_scale · grad                       (+ weight_decay · w  if not decoupled)
//   m = β1 m + (1−β1) g,   v = β2 v + (1−β2) g²
//   torch form:  w −= lr · (m/(1−β1ᵗ)) / (√(v/(1−β2ᵗ)) + ε)
//   keras form:  w −= lr · √(1−β2ᵗ)/(1−β1ᵗ) · m / (√v + ε)
//   decoupled (AdamW): w −= lr · weight_decay · w  before the step
// t = step counts from 1. grad_scale carries clipping: the caller passes min(1, clip/norm).
//
// On a device no number of a step needs to come from the host: `gate` and `scalars`, as
// step_control (kernels/step_control) writes them, take their place. A launch that reads them can
// be captured once and replayed for every step.
//   gate    = (grad_scale, apply, …)      apply = 0: no tensor is read or written
//   scalars = (lr, 1−β1ᵗ, 1−β2ᵗ)          instead of lr and step
//
//   tensor       | shape | dtype | written
//   parameter    | [n]   | f32   | updated in place
//   gradient     | [n]   | f32   |
//   m, v         | [n]   | f32   | updated in place
//   average      | [n]   | f32   | average = momentum · average + (1−momentum) · parameter
//   gate         | [3]   | f64   | optional
//   scalars      | [3]   | f64   | optional
// All contiguous. Deterministic. Sources: Kingma & Ba 2015; Loshchilov & Hutter 2019; forms as in
// PyTorch and Keras.
#pragma once

#include "runtime/core/tensor_view.h"
#include "runtime/device/execution_context.h"

namespace stemfabric {

enum class AdamForm : uint8_t { kTorch, kKeras };

struct AdamArgs {
  TensorView parameter, m, v;
  ConstTensorView gradient;
  int64_t step = 1;
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.0;
  bool decoupled = false;
  AdamForm form = AdamForm::kTorch;
  double grad_scale = 1.0;  // 1 if there is a gate
  ConstTensorView gate, scalars;
};
void adam_step(const ExecutionContext& ctx, const AdamArgs& args);

struct EmaArgs {
  TensorView average;
  ConstTensorView parameter;
  double momentum = 0.999;
  ConstTensorView gate;
};
void ema_update(const ExecutionContext& ctx, const EmaArgs& args);

}  // namespace stemfabric
