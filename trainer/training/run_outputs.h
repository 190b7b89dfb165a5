// The files that a run leaves beside its checkpoints: best model, final model, history, summary.
#pragma once

#include <filesystem>
#include <string>

#include "trainer/training/checkpoint.h"
#include "trainer/training/training.h"
#include "trainer/training/training_setup.h"

namespace stemfabric {

std::string utc_now();  // ISO 8601

// <path> and beside it <stem>.json with the step, epoch and loss it was best at, and the
// configuration of the run.
void write_best_model(const std::filesystem::path& path, const TrainingSetup& setup,
                      const RunIdentity& identity, const ParameterTable& table,
                      const ConstTensorView& weights, const EarlyStopping::State& best);

// Lists by epoch, as Keras' History has them: epoch, loss, val_loss, lr, loss_<stem>, …
void write_history(const std::filesystem::path& path, const std::vector<EpochRecord>& history);

struct FinalModel {
  std::filesystem::path path;
  std::string sha256;
  std::string weights;      // "best (epoch 7)", "last", "last (moving average)"
  std::string h5_obstacle;  // why there is no final_model.h5; empty if there is
};
struct SummaryInputs {
  const LoadedConfig& config;
  const RunIdentity& identity;
  const TrainingSetup& setup;
  const TrainingState& state;
  const TrainingResult& result;
  const FinalModel& model;
  int64_t parameters;
};
void write_summary(const std::filesystem::path& path, const SummaryInputs& inputs);

}  // namespace stemfabric
