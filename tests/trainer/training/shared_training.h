// A training of some steps that ranks share, on whatever device.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <vector>

#include "runtime/memory/host_access.h"
#include "trainer/data/dataset.h"
#include "trainer/model/separator.h"
#include "trainer/training/prefetch.h"
#include "trainer/training/snapshot_task.h"
#include "trainer/training/train_step.h"
#include "trainer/training/validation.h"

namespace stemfabric::test {

struct SharedTraining {
  std::vector<float> weights;
  std::vector<double> losses, norms;
  std::vector<int64_t> samples;
  std::vector<bool> stops;
  LossValues validation;
};

struct SharedTrainingOptions {
  std::filesystem::path folder;  // of the samples
  int64_t whole_batch = 4;       // of all ranks
  int64_t steps = 7;
  DeviceCollectives* devices = nullptr;
  DType gradient_dtype = DType::kF32;
  bool graph = true;
  int64_t collect_before = -1;  // this step no other is in flight
  std::function<void(int64_t step, int rank)> before_step = {};
};

// From the first sample on; each rank has its own data set, as processes do.
inline SharedTraining train_shared(const ExecutionContext& ctx, Collectives& ranks,
                                   const SharedTrainingOptions& options) {
  const Dataset data(options.folder);
  ModelConfig config;
  config.input_dim = data.features();
  config.output_dim = data.outputs();
  config.max_sequence_length = data.tokens();
  config.dim = 16;
  config.depth = 2;
  config.heads = 2;
  config.dim_ff = 16;
  config.attention.dropout = 0.2;
  const StepPlan plan{.samples = data.size(),
                      .batch_size = options.whole_batch / ranks.size(),
                      .accumulation = 2,
                      .ranks = ranks.size(),
                      .rank = ranks.rank()};
  Separator model(ctx, config,
                  {.batch = plan.batch_size, .tokens = data.tokens(), .training = true});
  write_on_host(ctx, model.weights(), [&](const TensorView& host) {
    model.parameters().initialize(host.as<float>(), 5);
  });
  // Momentum alone: an update is linear in the gradient, so that its rounding stays small.
  Optimizer optimizer(ctx, {.epsilon = 1.0}, model.parameters().block_elements(),
                      model.parameters().decayed_elements());
  SnapshotObjective objective(ctx);
  SnapshotStage stage(ctx, {1, 0.5, 2, 1, 0.25, 1});
  SharedTraining result;
  {
    Prefetcher batches(data, SampleStream(plan, 9, true, 0, 0), plan.batch_size,
                       2 * static_cast<int64_t>(1 + steps_ahead(ctx.device())), ctx.staging());
    TrainStep step(ctx,
                   {.grad_clip = 0.5,
                    .seed = 7,
                    .graph = options.graph,
                    .ranks = &ranks,
                    .devices = options.devices,
                    .gradients = {.bucket_bytes = 512, .dtype = options.gradient_dtype}},
                   model, optimizer, nullptr, objective, stage);
    PhaseTimes times;
    std::vector<std::size_t> taken;
    const auto collect = [&] {
      const StepResult r = step.collect(times);
      result.losses.push_back(r.loss.total);
      result.norms.push_back(r.grad_norm);
      result.samples.push_back(r.samples);
      result.stops.push_back(r.stop);
      batches.release(taken[result.losses.size() - 1]);
    };
    for (int64_t i = 0; i < options.steps; ++i) {
      std::vector<const SampleBatch*> micro_batches;
      const int64_t count = plan.micro_batches_in_step(i % plan.steps_per_epoch());
      for (int64_t m = 0; m < count; ++m) {
        micro_batches.push_back(&batches.next());
      }
      taken.push_back(micro_batches.size());
      while (i == options.collect_before && step.in_flight() > 0) {
        collect();
      }
      if (options.before_step) {
        options.before_step(i, ranks.rank());
      }
      // The last rank is asked to stop before the third step.
      step.launch(micro_batches, i, 0.05, times, i == 2 && ranks.rank() + 1 == ranks.size());
      while (step.in_flight() > steps_ahead(ctx.device())) {
        collect();
      }
    }
    while (step.in_flight() > 0) {
      collect();
    }
  }
  result.validation = *dataset_loss(ctx, ranks, model, objective, stage, nullptr, data,
                                    plan.batch_size, [] { return false; });
  const HostView weights(ctx, model.weights());
  result.weights.assign(weights.as<float>(),
                        weights.as<float>() + model.parameters().block_elements());
  return result;
}

}  // namespace stemfabric::test
