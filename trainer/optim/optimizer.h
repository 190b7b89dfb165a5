// Adam and AdamW over the parameter block; weight decay on its first `decayed` elements only.
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

  // One step with gradients grad_scale · gradients. All blocks are [elements] f32.
  void step(const ExecutionContext& ctx, const TensorView& weights,
            const ConstTensorView& gradients, double lr, double grad_scale);

  // What a checkpoint keeps: both moments and the number of steps taken (of the bias correction).
  TensorView first_moment() { return m_.view(); }
  TensorView second_moment() { return v_.view(); }
  int64_t steps() const { return steps_; }
  void set_steps(int64_t steps) { steps_ = steps; }

 private:
  Options options_;
  int64_t decayed_;
  int64_t steps_ = 0;
  Tensor m_, v_;
};

Optimizer::Options optimizer_options(const TrainingConfig& config);

}  // namespace stemfabric
