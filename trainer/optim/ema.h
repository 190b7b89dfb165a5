// The exponential moving average of the weights:  average = momentum · average + (1 − momentum) · w
// It starts as a copy of the initial weights.
#pragma once

#include "runtime/device/execution_context.h"
#include "runtime/memory/buffer.h"

namespace stemfabric {

class Ema {
 public:
  Ema(const ExecutionContext& ctx, double momentum, const ConstTensorView& weights);

  // `gate`: see kernels/adam; absent, the average always follows.
  void update(const ExecutionContext& ctx, const ConstTensorView& weights,
              const ConstTensorView& gate = {});
  TensorView average() { return average_.view(); }  // [n] f32, what a checkpoint keeps

 private:
  double momentum_;
  Tensor average_;
};

// Puts the average in the place of the weights while it lives (validation), without a third block.
class EmaSwap {
 public:
  // nullptr: does nothing. All must outlive the swap.
  EmaSwap(const ExecutionContext& ctx, Ema* ema, const TensorView& weights);
  ~EmaSwap();
  EmaSwap(const EmaSwap&) = delete;
  EmaSwap& operator=(const EmaSwap&) = delete;

 private:
  void swap();
  const ExecutionContext& ctx_;
  Ema* ema_;
  TensorView weights_;
};

}  // namespace stemfabric
