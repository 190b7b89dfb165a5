// One optimiser step: forward, loss and backward of its micro-batches, clipping, update.
#pragma once

#include <span>
#include <string>

#include "trainer/model/separator.h"
#include "trainer/optim/ema.h"
#include "trainer/optim/optimizer.h"
#include "trainer/training/phase_times.h"
#include "trainer/training/stem_objective.h"

namespace stemfabric {

struct StepResult {
  LossValues loss;  // before the update
  StemValues weighted{};
  StemValues counts{};
  double grad_norm = 0;  // before clipping
  int64_t samples = 0;
  // Empty, or where the first value is that is not finite: the step changed nothing then.
  std::string non_finite;
};

class TrainStep {
 public:
  struct Options {
    double grad_clip = 0;  // 0: none
    uint64_t seed = 0;     // of dropout
  };
  // `ema` may be nullptr. All must outlive the step.
  TrainStep(const ExecutionContext& ctx, const Options& options, Separator& model,
            Optimizer& optimizer, Ema* ema, StemObjective& objective, BatchStage& stage);

  // `step` counts from 0. The micro-batches share one denominator per stem, so that the result is
  // that of one large batch. Times are added to `times`. When it returns, the device has done with
  // the batches.
  StepResult run(std::span<const Batch* const> micro_batches, int64_t step, double lr,
                 PhaseTimes& times);

 private:
  void accumulate(std::span<const Batch* const> micro_batches, int64_t step, PhaseTimes& times);
  const ExecutionContext& ctx_;
  Options options_;
  Separator& model_;
  Optimizer& optimizer_;
  Ema* ema_;
  StemObjective& objective_;
  BatchStage& stage_;
  Tensor squares_;  // [3] f64: sum_squares_into of the gradient
};

// The parameter that holds element `index` of the block; "padding" between parameters.
std::string parameter_at(const ParameterTable& table, int64_t index);

}  // namespace stemfabric
