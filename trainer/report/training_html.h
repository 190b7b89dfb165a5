// report.html of a training run: curves, where the time went, configuration, what came out.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace stemfabric {

struct TrainingReport {
  std::filesystem::path run_folder;  // the curves are read from its metrics.jsonl and epochs.jsonl
  std::string timestamp;             // ISO 8601, UTC
  std::string end;                   // why it ended, or that it goes on
  bool finished = false;
  int64_t steps = 0, epochs = 0, parameters = 0;
  double seconds = 0;
  double train_loss = 0;                  // of the last epoch, or the part of it that was done
  std::optional<double> validation_loss;  // of the final weights; of the last epoch if unfinished
  int64_t best_epoch = 0;                 // 0: none yet
  int64_t train_samples = 0, validation_samples = 0;
  std::string weights, weights_sha256;  // of the final model
  std::string data_folder, data_hash;
  int64_t seed = 0;
  std::string config_yaml;
};

// Atomic. What is missing or damaged in the run folder is left out.
void write_training_html(const std::filesystem::path& path, const TrainingReport& report);

}  // namespace stemfabric
