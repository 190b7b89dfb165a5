// The loss of a step or of a validation over any number of micro-batches with one denominator per
// stem: per-stem MSE over present elements, each sample's weight times loss.stem_weights.
#pragma once

#include "runtime/device/execution_context.h"
#include "trainer/data/dataset.h"
#include "trainer/training/training_state.h"

namespace stemfabric {

class StemObjective {
 public:
  StemObjective(const std::vector<double>& stem_weights, int64_t batch_capacity);

  // Forgets counts and losses.
  void reset();
  // Adds the batch's present elements to the denominators. For gradients, count all micro-batches
  // of a step before the first add().
  void count(const ExecutionContext& ctx, const Batch& batch);
  // Adds the batch's losses, and writes the gradient [6,B,T,out] over the denominators counted.
  void add(const ExecutionContext& ctx, const Batch& batch, const ConstTensorView& prediction,
           const TensorView& gradient);
  // For validation: counts, and adds sums of squares, to be divided in the end by mean_of_sums().
  void add_sums(const ExecutionContext& ctx, const Batch& batch, const ConstTensorView& prediction);

  StemValues counts() const { return read(count_); }
  StemValues losses() const { return read(loss_); }
  StemValues weighted() const { return read(weighted_); }
  LossValues values() const;        // after add()
  LossValues mean_of_sums() const;  // after add_sums()

 private:
  static StemValues read(const Tensor& tensor);
  void run(const ExecutionContext& ctx, const Batch& batch, const ConstTensorView& prediction,
           const ConstTensorView& denominators, const TensorView& gradient);
  StemValues stem_weights_{};
  Tensor count_, ones_, loss_, weighted_;  // [6] f64
  Tensor weight_;                          // [capacity, 6] f32
};

// Views of the rows that a batch holds.
ConstTensorView batch_inputs(const Batch& batch);  // [B,T,F]
ConstTensorView batch_mask(const Batch& batch);    // [B,T]

}  // namespace stemfabric
