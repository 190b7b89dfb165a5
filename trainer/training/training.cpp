#include "trainer/training/training.h"

#include "runtime/core/check.h"
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

TrainingResult run_training(const LoadedConfig& config, const TrainOptions& options) {
  validate_config(config);
  Trainer trainer(config, options, prepare_training(config));
  return options.dry_run ? trainer.dry_run() : trainer.run();
}

}  // namespace stemfabric
