#include "trainer/training/validation.h"

#include <algorithm>

#include "trainer/training/prefetch.h"

namespace stemfabric {

std::optional<LossValues> dataset_loss(const ExecutionContext& ctx, Collectives& ranks,
                                       Separator& model, StemObjective& objective,
                                       BatchStage& stage, OutputMetric* metric,
                                       const SampleSource& source, int64_t batch_size,
                                       const std::function<bool()>& stop) {
  const StepPlan plan{.samples = source.size(),
                      .batch_size = std::min(batch_size, source.size()),
                      .accumulation = 1,
                      .ranks = ranks.size(),
                      .rank = ranks.rank()};
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
    const SampleBatch& samples = batches.next();
    if (samples.size > 0) {
      const StagedBatch batch = stage.put(samples);
      const ConstTensorView prediction = model.forward(batch.inputs, batch.mask, false, {});
      objective.add_sums(batch, prediction);
      if (metric != nullptr) {
        metric->add(batch, prediction);
      }
    }
    ctx.stream().synchronize();  // before the batch is filled anew
    batches.release();
  }
  StemSums sums = objective.read();
  ranks.all_reduce(std::span(reinterpret_cast<double*>(&sums), sizeof sums / sizeof(double)),
                   "losses of the validation");
  if (metric != nullptr) {
    metric->reduce(ranks);
  }
  return sums.mean_of_sums();
}

}  // namespace stemfabric
