#include "trainer/training/training.h"

#include <optional>

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

constexpr const char* kDeviceKey = "training.device";

// On several ranks each has a device of its own.
DeviceInfo device_of_rank(const TrainingConfig& training) {
  return training.device == "cpu" ? cpu_info()
                                  : choose_device(training.device, kDeviceKey, survey_devices(),
                                                  rank_environment().local_rank);
}

}  // namespace

TrainingResult run_training(const LoadedConfig& config, const TrainOptions& options) {
  const TrainingConfig& training = config.config.training;
  Collectives alone;
  Collectives& ranks = options.ranks != nullptr ? *options.ranks : alone;
  const int64_t threads = threads_of_rank(ranks, training.threads);
  std::optional<TrainingSetup> setup;
  std::optional<DeviceInfo> device;
  on_every_rank(ranks, [&] {
    validate_config(config);
    setup = prepare_training(config, threads);
    if (!options.make_context && !ranks.alone()) {
      device = device_of_rank(training);
    }
  });
  if (device) {
    require_own_devices(ranks, *device);
  }
  std::optional<ExecutionContext> ctx;
  on_every_rank(ranks, [&] {
    ctx = options.make_context ? options.make_context()
          : device             ? device_context(device->device, kDeviceKey, threads)
                               : device_context(training.device, kDeviceKey, threads);
  });
  // Asked before anything is taken, for the advice if it does not suffice.
  const int64_t available = ctx->resource().available_bytes();
  const std::string advice =
      batch_size_advice(training, *setup, ctx->device(), available, ranks.size());
  std::optional<StopSignalGuard> own;
  StopSignalGuard& signals = options.signals != nullptr ? *options.signals : own.emplace();
  try {
    Trainer trainer(config, options, *std::move(setup), *std::move(ctx), ranks, signals);
    return options.dry_run ? trainer.dry_run() : trainer.run();
  } catch (const OutOfMemoryError& error) {
    throw OutOfMemoryError("{}{}", error.what(), advice);
  }
}

}  // namespace stemfabric
