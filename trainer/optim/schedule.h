// The learning rate over time.
//
//   warm-up:  lr · (step + 1) / warmup_steps            while step < warmup_steps, then
//   constant: lr
//   cosine:   min_lr + (lr − min_lr) · (1 + cos(π · p)) / 2,  p = (step − warmup) / (total −
//   warmup) plateau:  lr, times reduce_factor after reduce_patience epochs without progress, floor
//   min_lr
// `step` counts from 0. Sources: Loshchilov & Hutter 2017 (cosine); Keras ReduceLROnPlateau.
#pragma once

#include <cstdint>
#include <limits>

#include "trainer/config/config.h"

namespace stemfabric {

enum class ScheduleKind : uint8_t { kPlateau, kCosine, kConstant };

class Schedule {
 public:
  struct Options {
    ScheduleKind kind = ScheduleKind::kPlateau;
    double lr = 1e-3;
    double min_lr = 0;
    int64_t warmup_steps = 0;
    int64_t total_steps = 0;  // cosine only
    double reduce_factor = 0.5;
    int64_t reduce_patience = 5;
    double min_delta = 0;
  };
  // What a checkpoint keeps; only the plateau schedule changes it.
  struct State {
    double lr = 0;  // after the reductions so far
    double best = std::numeric_limits<double>::infinity();
    int64_t epochs_without_progress = 0;
    bool operator==(const State&) const = default;
  };

  explicit Schedule(const Options& options);

  double lr(int64_t step) const;
  // The monitored loss after `epochs` more epochs. True if the learning rate was reduced.
  bool observe(double loss, int64_t epochs);

  const State& state() const { return state_; }
  void restore(const State& state) { state_ = state; }

 private:
  Options options_;
  State state_;
};

Schedule::Options schedule_options(const TrainingConfig& config, int64_t total_steps);

}  // namespace stemfabric
