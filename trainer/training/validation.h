// The loss over a whole data set, exactly: sums over all samples, divided once.
#pragma once

#include <functional>
#include <optional>

#include "runtime/collectives/collectives.h"
#include "trainer/data/sample_source.h"
#include "trainer/model/separator.h"
#include "trainer/training/batch_stage.h"
#include "trainer/training/output_metric.h"
#include "trainer/training/stem_objective.h"

namespace stemfabric {

// With the model's present weights. What `stage` held is released. Empty if `stop()` said true
// between two batches. `metric` may be null; it is reset first. The ranks share the samples and all
// get the result; they ask `stop()` equally often, and it must tell all of them the same.
std::optional<LossValues> dataset_loss(const ExecutionContext& ctx, Collectives& ranks,
                                       Separator& model, StemObjective& objective,
                                       BatchStage& stage, OutputMetric* metric,
                                       const SampleSource& source, int64_t batch_size,
                                       const std::function<bool()>& stop);

}  // namespace stemfabric
