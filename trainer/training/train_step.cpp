#include "trainer/training/train_step.h"

#include <cmath>
#include <exception>
#include <vector>

#include "kernels/reduction/reduction.h"
#include "runtime/core/log.h"

namespace stemfabric {

std::string parameter_at(const ParameterTable& table, int64_t index) {
  for (const ParameterInfo& info : table.entries()) {
    const int64_t rows = info.shape.rank() == 2 ? info.shape[0] : 1;
    const int64_t columns = info.shape[-1];
    const int64_t at = index - info.offset;
    if (at < 0 || at >= (rows - 1) * info.row_stride + columns) {
      continue;
    }
    if (rows == 1 || at % info.row_stride < columns) {
      return info.name;
    }
  }
  return "padding";
}

TrainStep::TrainStep(const ExecutionContext& ctx, const Options& options, Separator& model,
                     Optimizer& optimizer, Ema* ema, StemObjective& objective, BatchStage& stage)
    : ctx_(ctx),
      options_(options),
      model_(model),
      optimizer_(optimizer),
      ema_(ema),
      objective_(objective),
      stage_(stage),
      squares_(Shape{3}, DType::kF64, ctx.resource(), "gradient norm"),
      records_(ctx.staging(), kRecords * sizeof(Record), "results of steps") {}

TrainStep::~TrainStep() {
  try {
    ctx_.stream().synchronize();
  } catch (const std::exception& error) {
    log_warning("the last steps did not come to their end: {}", error.what());
  }
}

void TrainStep::accumulate(std::span<const Batch* const> micro_batches, int64_t step,
                           PhaseTimes& times) {
  std::vector<StagedBatch> staged;
  {
    const PhaseScope scope(times, Phase::kLoss);
    objective_.reset();
    stage_.release();
    for (const Batch* batch : micro_batches) {
      staged.push_back(stage_.put(*batch));
      objective_.count(staged.back());
    }
    const TensorView gradients = model_.gradients();
    ctx_.stream().fill(gradients.data(), 0, gradients.bytes());
  }
  int64_t sample0 = 0;
  for (const StagedBatch& batch : staged) {
    ConstTensorView prediction;
    {
      const PhaseScope scope(times, Phase::kForward);
      prediction = model_.forward(
          batch.inputs, batch.mask, true,
          {.seed = options_.seed, .step = static_cast<uint64_t>(step), .sample0 = sample0});
    }
    {
      const PhaseScope scope(times, Phase::kLoss);
      objective_.add(batch, prediction, model_.output_gradient());
    }
    {
      const PhaseScope scope(times, Phase::kBackward);
      model_.backward();
    }
    sample0 += batch.size;
  }
}

void TrainStep::launch(std::span<const Batch* const> micro_batches, int64_t step, double lr,
                       PhaseTimes& times) {
  SF_CHECK(in_flight() < kRecords, "{} steps were launched and not collected", in_flight());
  accumulate(micro_batches, step, times);
  const PhaseScope scope(times, Phase::kOptimizer);
  Record& record = this->record(launched_);
  record.lr = lr;
  Stream& stream = ctx_.stream();
  sum_squares_into(ctx_, {.x = model_.gradients(), .result = squares_.view()});
  optimizer_.step(ctx_, model_.weights(), model_.gradients(),
                  {.squares = squares_.view(),
                   .loss = objective_.losses(),
                   .weighted = objective_.weighted_losses(),
                   .clip = options_.grad_clip,
                   .lr = &record.lr});
  if (ema_ != nullptr) {
    ema_->update(ctx_, model_.weights(), optimizer_.gate());
  }
  stream.copy(&record.sums, objective_.sums().data(), sizeof record.sums);
  stream.copy(record.squares, squares_.view().data(), sizeof record.squares);
  stream.copy(record.gate, optimizer_.gate().data(), sizeof record.gate);
  Launched& launched = launches_[launched_ % kRecords];
  launched.samples = 0;
  for (const Batch* batch : micro_batches) {
    launched.samples += batch->size;
  }
  launched.done = stream.record();
  ++launched_;
}

StepResult TrainStep::collect(PhaseTimes& times) {
  SF_CHECK(in_flight() > 0, "no step was launched");
  const PhaseScope scope(times, Phase::kOptimizer);
  const Launched& launched = launches_[collected_ % kRecords];
  launched.done->synchronize();
  const Record& record = this->record(collected_++);
  const SumSquares squares = sum_squares_of(record.squares);
  StepResult result{.loss = record.sums.values(),
                    .weighted = record.sums.weighted,
                    .counts = record.sums.count,
                    .grad_norm = record.gate[2],
                    .samples = launched.samples};
  for (std::size_t s = 0; s < kStemCount && result.non_finite.empty(); ++s) {
    if (!std::isfinite(result.loss.stem[s]) || !std::isfinite(result.weighted[s])) {
      result.non_finite = fmt::format("the loss of stem {}", kStemNames[s]);
    }
  }
  if (squares.non_finite > 0) {
    result.non_finite += fmt::format("{}{} values of the gradient, first in {}",
                                     result.non_finite.empty() ? "" : " and ", squares.non_finite,
                                     parameter_at(model_.parameters(), squares.first_non_finite));
  }
  SF_CHECK(result.non_finite.empty() == (record.gate[1] != 0),
           "the gate of a step is {}, its values that are not finite: '{}'", record.gate[1],
           result.non_finite);
  return result;
}

StepResult TrainStep::run(std::span<const Batch* const> micro_batches, int64_t step, double lr,
                          PhaseTimes& times) {
  SF_CHECK(in_flight() == 0, "{} steps were launched and not collected", in_flight());
  launch(micro_batches, step, lr, times);
  return collect(times);
}

}  // namespace stemfabric
