// Training from a configuration to a run folder: what `stemfabric train` and `stemfabric run` call.
// Run folder, metrics and the rules of resuming: docs/training.md.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "runtime/collectives/collectives.h"
#include "runtime/collectives/nccl_functions.h"
#include "runtime/device/execution_context.h"
#include "trainer/config/config_io.h"
#include "trainer/training/stop_signal.h"

namespace stemfabric {

struct TrainOptions {
  std::filesystem::path output_dir;  // not used by a dry run
  std::string resume = "auto";       // auto, never, or the path of a checkpoint
  bool dry_run = false;              // preflight and one step; writes nothing
  // Asked after each step with the number of steps taken; true ends the run as a signal would.
  std::function<bool(int64_t)> stop;
  // With whom to train, all on CPUs or each on a GPU of its own; null: alone. Every rank calls
  // run_training() alike; rank 0 alone reads and writes output_dir.
  Collectives* ranks = nullptr;
  // What signals do while run_training() loads; null: they end the process as they end any.
  StopSignalGuard* signals = nullptr;
  // Where to train; empty: training.device and training.threads of the configuration.
  std::function<ExecutionContext()> make_context;
  // What adds up between the GPUs of ranks; null: NCCL.
  const NcclFunctions* nccl = nullptr;
};

struct TrainingResult {
  enum class End : uint8_t { kEpochs, kSteps, kEarlyStopping, kInterrupted, kDryRun };
  End end = End::kEpochs;
  int64_t steps = 0;
  int64_t epochs = 0;
  int64_t skipped_steps = 0;
  double train_loss = 0;                  // mean of the last epoch, or of the part that was done
  std::optional<double> validation_loss;  // of the final weights
  std::filesystem::path final_model;      // empty if interrupted or a dry run
  double seconds = 0;                     // of training, over all sessions
};
std::string_view end_name(TrainingResult::End end);  // "num_epochs", "early stopping", …

// Trains until the limits of the configuration, early stopping, or a signal (SIGTERM, SIGINT,
// SIGUSR1), which saves a checkpoint first. Handles these signals from the start of training on.
// Errors: ConfigError, InputError, IoError; a DeviceError if training.device cannot be had; an
// OutOfMemoryError that says which batch size would fit; a NumericError after
// training.max_non_finite_steps steps in a row with a loss or gradient that is not finite; and a
// CollectiveError if another rank does not come to a collective within distributed.timeout_s.
TrainingResult run_training(const LoadedConfig& config, const TrainOptions& options);

}  // namespace stemfabric
