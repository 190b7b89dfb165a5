// Adam and AdamW over the parameter block; weight decay on its first `decayed` elements only.
// Where the gradient lies it is decided whether a step is made, and with which numbers
// (kernels/step_control): the host waits for nothing.
#pragma once

#include "kernels/adam/adam.h"
#include "runtime/memory/buffer.h"
#include "trainer/config/config.h"

namespace stemfabric {

class Optimizer {
 public:
  struct Options {
    bool decoupled = false;  // AdamW
    AdamForm form = AdamForm::kTorch;
    double beta1 = 0.9;
    double beta2 = 0.999;
    double epsilon = 1e-7;
    double weight_decay = 0;
  };

  // Moments start at zero. 0 <= decayed <= elements.
  Optimizer(const ExecutionContext& ctx, const Options& options, int64_t elements, int64_t decayed);

  // What decides a step.
  struct Decision {
    ConstTensorView squares;         // sum_squares_into of the gradients
    ConstTensorView loss, weighted;  // optional: every element must be finite
    double clip = 0;                 // 0: no clipping
  };
  // The learning rate from now on, copied from the host, where it must stay as it is until the
  // stream has come so far.
  void set_lr(const ExecutionContext& ctx, const double* lr);
  // One step with the gradients, or nothing if they or the losses are not finite. Both blocks are
  // [elements] f32.
  void step(const ExecutionContext& ctx, const TensorView& weights,
            const ConstTensorView& gradients, const Decision& decision);
  // [3] f64 of the last step: (factor of the gradients, 1 if the step was made else 0, norm).
  ConstTensorView gate() const;

  // What a checkpoint keeps: both moments and the number of steps made (of the bias correction).
  // The last two wait for the stream.
  TensorView first_moment() { return m_.view(); }
  TensorView second_moment() { return v_.view(); }
  int64_t steps(const ExecutionContext& ctx) const;
  void set_steps(const ExecutionContext& ctx, int64_t steps);

 private:
  Options options_;
  int64_t decayed_;
  Tensor m_, v_;
  Tensor control_;  // [8] f64: learning rate, steps made, gate, scalars of the step
};

Optimizer::Options optimizer_options(const TrainingConfig& config);

}  // namespace stemfabric
