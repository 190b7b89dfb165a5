#include "trainer/training/training.h"

#include "runtime/collectives/mpi_transport.h"
#include "runtime/core/check.h"
#include "trainer/device_context.h"
#include "trainer/training/preflight.h"
#include "trainer/training/ranks.h"
#include "trainer/training/trainer.h"

namespace stemfabric {

std::string_view end_name(TrainingResult::End end) {
  switch (end) {
    case TrainingResult::End::kEpochs:
      return "num_epochs";
    case TrainingResult::End::kSteps:
      return "num_steps";
    case TrainingResult::End::kEarlyStopping:
      return "early stopping";
    case TrainingResult::End::kInterrupted:
      return "interrupted";
    case TrainingResult::End::kDryRun:
      return "dry run";
  }
  return "unknown";
}

namespace {

ExecutionContext context_of_rank(Collectives& ranks, const TrainingConfig& training) {
  constexpr const char* kKey = "training.device";
  const int64_t threads = threads_of_rank(ranks, training.threads);
  if (ranks.alone()) {
    return device_context(training.device, kKey, threads);
  }
  const DeviceInfo mine =
      training.device == "cpu"
          ? cpu_info()
          : choose_device(training.device, kKey, survey_devices(), rank_environment().local_rank);
  require_own_devices(ranks, mine);
  return device_context(mine.device, kKey, threads);
}

}  // namespace

TrainingResult run_training(const LoadedConfig& config, const TrainOptions& options) {
  validate_config(config);
  TrainingSetup setup = prepare_training(config);
  const TrainingConfig& training = config.config.training;
  Collectives alone;
  Collectives& ranks = options.ranks != nullptr ? *options.ranks : alone;
  ExecutionContext ctx =
      options.make_context ? options.make_context() : context_of_rank(ranks, training);
  // Asked before anything is taken, for the advice if it does not suffice.
  const int64_t available = ctx.resource().available_bytes();
  const std::string advice = batch_size_advice(training, setup, ctx.device(), available);
  try {
    Trainer trainer(config, options, std::move(setup), std::move(ctx), ranks);
    return options.dry_run ? trainer.dry_run() : trainer.run();
  } catch (const OutOfMemoryError& error) {
    throw OutOfMemoryError("{}{}", error.what(), advice);
  }
}

}  // namespace stemfabric
