#include "trainer/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace stemfabric {

Schedule::Schedule(const Options& options) : options_(options) { state_.lr = options.lr; }

double Schedule::lr(int64_t step) const {
  if (step < options_.warmup_steps) {
    return state_.lr * static_cast<double>(step + 1) / static_cast<double>(options_.warmup_steps);
  }
  if (options_.kind != ScheduleKind::kCosine) {
    return state_.lr;
  }
  const int64_t span = std::max<int64_t>(1, options_.total_steps - options_.warmup_steps);
  const double progress =
      std::min(1.0, static_cast<double>(step - options_.warmup_steps) / static_cast<double>(span));
  const double floor = std::min(options_.min_lr, options_.lr);
  return floor + (options_.lr - floor) * 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
}

bool Schedule::observe(double loss, int64_t epochs) {
  if (options_.kind != ScheduleKind::kPlateau) {
    return false;
  }
  if (loss < state_.best - options_.min_delta) {
    state_.best = loss;
    state_.epochs_without_progress = 0;
    return false;
  }
  state_.epochs_without_progress += epochs;
  if (state_.epochs_without_progress < options_.reduce_patience) {
    return false;
  }
  state_.epochs_without_progress = 0;
  const double reduced = std::max(options_.min_lr, state_.lr * options_.reduce_factor);
  if (reduced >= state_.lr) {
    return false;  // at the floor already
  }
  state_.lr = reduced;
  return true;
}

Schedule::Options schedule_options(const TrainingConfig& config, int64_t total_steps) {
  Schedule::Options options;
  options.kind = config.schedule == "cosine"     ? ScheduleKind::kCosine
                 : config.schedule == "constant" ? ScheduleKind::kConstant
                                                 : ScheduleKind::kPlateau;
  options.lr = config.lr;
  options.min_lr = config.min_lr;
  options.warmup_steps = config.warmup_steps;
  options.total_steps = total_steps;
  options.reduce_factor = config.reduce_factor;
  options.reduce_patience = config.reduce_patience;
  options.min_delta = config.min_delta;
  return options;
}

}  // namespace stemfabric
