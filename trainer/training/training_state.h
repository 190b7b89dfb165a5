// Everything of a run's position that is not a tensor: what a checkpoint keeps in state.json.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "trainer/optim/schedule.h"
#include "trainer/stems.h"
#include "trainer/training/early_stopping.h"

namespace stemfabric {

using StemValues = std::array<double, kStemCount>;

// The mean of those that are finite; NaN if none is.
double mean_of_finite(const StemValues& values);

// A loss over any number of batches: per stem the mean squared error of its present elements, and
// the total with the stems' and samples' weights.
struct LossValues {
  double total = 0;
  StemValues stem{};
};

// Exact mean over batches of different sizes: sums of loss · count and of count. NaN if nothing was
// counted (every step was skipped).
struct LossSums {
  StemValues weighted{};  // Σ weighted_s · count_s
  StemValues plain{};     // Σ loss_s · count_s
  StemValues count{};
  void add(const StemValues& weighted_loss, const StemValues& loss, const StemValues& counts);
  LossValues mean() const;
};

struct EpochRecord {
  int64_t epoch = 0;  // counts from 1
  int64_t step = 0;   // at its end
  double lr = 0;      // of its last step
  double seconds = 0;
  LossValues train;
  std::optional<LossValues> validation;
  std::optional<StemValues> validation_sdr;  // of audio, in dB; NaN where there is none
};

struct TrainingState {
  int64_t step = 0;           // steps taken, skipped ones included
  int64_t epoch = 0;          // whole epochs done
  int64_t step_in_epoch = 0;  // steps taken in the current one
  int64_t optimizer_steps = 0;
  int64_t skipped_steps = 0;
  int64_t skipped_in_a_row = 0;
  double seconds = 0;  // of training so far, over all sessions
  double last_lr = 0;
  uint64_t metrics_bytes = 0;        // length of metrics.jsonl at this moment
  uint64_t epoch_metrics_bytes = 0;  // and of epochs.jsonl
  LossSums epoch_sums;
  Schedule::State schedule;
  EarlyStopping::State early_stopping;
  std::vector<EpochRecord> history;
};

std::string training_state_to_json(const TrainingState& state);
// InputError that names `source` and the field at fault.
TrainingState training_state_from_json(const std::string& text, const std::string& source);

}  // namespace stemfabric
