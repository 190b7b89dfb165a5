#include "trainer/training/validation.h"

#include <algorithm>

#include "trainer/training/prefetch.h"

namespace stemfabric {

std::optional<LossValues> dataset_loss(const ExecutionContext& ctx, Separator& model,
                                       StemObjective& objective, const Dataset& dataset,
                                       int64_t batch_size, const std::function<bool()>& stop) {
  const StepPlan plan{.samples = dataset.size(),
                      .batch_size = std::min(batch_size, dataset.size()),
                      .accumulation = 1};
  Prefetcher batches(dataset, SampleStream(plan, 0, false, 0, 0), plan.batch_size, 1);
  objective.reset();
  for (int64_t i = 0; i < plan.steps_per_epoch(); ++i) {
    if (stop()) {
      return std::nullopt;
    }
    const Batch& batch = batches.next();
    const ConstTensorView prediction =
        model.forward(batch_inputs(batch), batch_mask(batch), false, {});
    objective.add_sums(ctx, batch, prediction);
    batches.release();
  }
  return objective.mean_of_sums();
}

}  // namespace stemfabric
