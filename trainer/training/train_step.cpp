#include "trainer/training/train_step.h"

#include <cmath>
#include <vector>

#include "kernels/reduction/reduction.h"
#include "runtime/memory/host_access.h"

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
      squares_(Shape{3}, DType::kF64, ctx.resource(), "gradient norm") {}

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

StepResult TrainStep::run(std::span<const Batch* const> micro_batches, int64_t step, double lr,
                          PhaseTimes& times) {
  accumulate(micro_batches, step, times);
  const PhaseScope scope(times, Phase::kOptimizer);
  // One wait for the device, whose results decide whether the step changes anything.
  sum_squares_into(ctx_, {.x = model_.gradients(), .result = squares_.view()});
  const StemSums sums = objective_.read();
  double square_sums[3];
  copy_to_host(ctx_, square_sums, squares_.view());
  const SumSquares squares = sum_squares_of(square_sums);
  StepResult result{.loss = sums.values(), .weighted = sums.weighted, .counts = sums.count};
  for (const Batch* batch : micro_batches) {
    result.samples += batch->size;
  }
  result.grad_norm =
      squares.non_finite > 0 ? std::numeric_limits<double>::quiet_NaN() : std::sqrt(squares.sum);
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
  if (!result.non_finite.empty()) {
    return result;
  }
  const bool clip = options_.grad_clip > 0 && result.grad_norm > options_.grad_clip;
  optimizer_.step(ctx_, model_.weights(), model_.gradients(), lr,
                  clip ? options_.grad_clip / result.grad_norm : 1.0);
  if (ema_ != nullptr) {
    ema_->update(ctx_, model_.weights());
  }
  return result;
}

}  // namespace stemfabric
