#include "trainer/training/validation.h"

#include <algorithm>

#include "trainer/training/prefetch.h"

namespace stemfabric {

std::optional<LossValues> dataset_loss(const ExecutionContext& ctx, Separator& model,
                                       StemObjective& objective, BatchStage& stage,
                                       OutputMetric* metric, const SampleSource& source,
                                       int64_t batch_size, const std::function<bool()>& stop) {
  const StepPlan plan{.samples = source.size(),
                      .batch_size = std::min(batch_size, source.size()),
                      .accumulation = 1};
  Prefetcher batches(source, SampleStream(plan, 0, false, 0, 0), plan.batch_size, 1, ctx.staging());
  objective.reset();
  if (metric != nullptr) {
    metric->reset();
  }
  for (int64_t i = 0; i < plan.steps_per_epoch(); ++i) {
    if (stop()) {
      return std::nullopt;
    }
    stage.release();
    const StagedBatch batch = stage.put(batches.next());
    const ConstTensorView prediction = model.forward(batch.inputs, batch.mask, false, {});
    objective.add_sums(batch, prediction);
    if (metric != nullptr) {
      metric->add(batch, prediction);
    }
    ctx.stream().synchronize();  // before the batch is filled anew
    batches.release();
  }
  return objective.read().mean_of_sums();
}

}  // namespace stemfabric
