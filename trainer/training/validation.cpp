#include "trainer/training/validation.h"

#include <algorithm>

#include "trainer/training/prefetch.h"

namespace stemfabric {

std::optional<LossValues> dataset_loss(const ExecutionContext& ctx, Separator& model,
                                       StemObjective& objective, BatchStage& stage,
                                       const Dataset& dataset, int64_t batch_size,
                                       const std::function<bool()>& stop) {
  const StepPlan plan{.samples = dataset.size(),
                      .batch_size = std::min(batch_size, dataset.size()),
                      .accumulation = 1};
  Prefetcher batches(dataset, SampleStream(plan, 0, false, 0, 0), plan.batch_size, 1,
                     ctx.staging());
  objective.reset();
  for (int64_t i = 0; i < plan.steps_per_epoch(); ++i) {
    if (stop()) {
      return std::nullopt;
    }
    stage.release();
    const StagedBatch batch = stage.put(batches.next());
    objective.add_sums(batch, model.forward(batch.inputs, batch.mask, false, {}));
    ctx.stream().synchronize();  // before the batch is filled anew
    batches.release();
  }
  return objective.read().mean_of_sums();
}

}  // namespace stemfabric
