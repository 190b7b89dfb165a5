// The loss over a whole data set, exactly: sums over all samples, divided once.
#pragma once

#include <functional>
#include <optional>

#include "trainer/model/separator.h"
#include "trainer/training/stem_objective.h"

namespace stemfabric {

// With the model's present weights. What `stage` held is released. Empty if `stop()` said true
// between two batches.
std::optional<LossValues> dataset_loss(const ExecutionContext& ctx, Separator& model,
                                       StemObjective& objective, BatchStage& stage,
                                       const Dataset& dataset, int64_t batch_size,
                                       const std::function<bool()>& stop);

}  // namespace stemfabric
