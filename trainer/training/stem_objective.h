// The loss of a step or of a validation over any number of micro-batches with one denominator per
// stem, each sample's weight times loss.stem_weights. What is compared, the kinds of data say.
#pragma once

#include "runtime/device/execution_context.h"
#include "runtime/memory/buffer.h"
#include "trainer/training/batch_stage.h"
#include "trainer/training/training_state.h"

namespace stemfabric {

// What an objective has added up; in memory just like StemObjective::sums().
struct StemSums {
  StemValues count{}, loss{}, weighted{};
  LossValues values() const;        // after add()
  LossValues mean_of_sums() const;  // after add_sums()
};

class StemObjective {
 public:
  virtual ~StemObjective() = default;
  StemObjective(const StemObjective&) = delete;
  StemObjective& operator=(const StemObjective&) = delete;

  // Forgets counts and losses.
  void reset();
  // Adds the batch's present elements to the denominators. For gradients, count all micro-batches
  // of a step before the first add().
  virtual void count(const StagedBatch& batch) = 0;
  // Adds the batch's losses, and writes the gradient [6,B,T,out] over the denominators counted.
  void add(const StagedBatch& batch, const ConstTensorView& prediction, const TensorView& gradient);
  // For validation: counts, and adds sums of losses, to be divided in the end by mean_of_sums().
  void add_sums(const StagedBatch& batch, const ConstTensorView& prediction);

  // Where the sums lie: [3, 6] f64 (counts, losses, weighted losses), and two of its rows.
  ConstTensorView sums() const { return sums_.view(); }
  ConstTensorView losses();
  ConstTensorView weighted_losses();
  // What ranks add up: the counts [6] before the first add(), both losses [12] after the last.
  TensorView counts();
  TensorView both_losses();
  // Waits for the stream.
  StemSums read() const;

 protected:
  // ctx must outlive the objective.
  explicit StemObjective(const ExecutionContext& ctx);
  // Adds to losses() and weighted_losses() what the batch gives over `denominators` [6] f64, and
  // writes the gradient, which may be absent.
  virtual void run(const StagedBatch& batch, const ConstTensorView& prediction,
                   const ConstTensorView& denominators, const TensorView& gradient) = 0;
  TensorView loss_sums();
  TensorView weighted_sums();
  const ExecutionContext& ctx_;

 private:
  TensorView sum(int64_t row);
  Tensor sums_;
  Tensor ones_;  // [6] f64
};

}  // namespace stemfabric
