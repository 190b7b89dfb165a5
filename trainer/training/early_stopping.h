// Remembers the best monitored loss and says when to stop: after `patience` epochs whose loss was
// not below best − min_delta. A NaN counts as no progress.
#pragma once

#include <cstdint>
#include <limits>

namespace stemfabric {

class EarlyStopping {
 public:
  // What a checkpoint keeps.
  struct State {
    double best = std::numeric_limits<double>::infinity();
    int64_t best_epoch = 0;  // epochs count from 1; 0 = none yet
    int64_t best_step = 0;
    int64_t epochs_without_progress = 0;
    bool operator==(const State&) const = default;
  };

  EarlyStopping(int64_t patience, double min_delta)  // patience 0: never stops
      : patience_(patience), min_delta_(min_delta) {}

  // The loss after `epochs` more epochs; true if it is the best so far.
  bool observe(double loss, int64_t epoch, int64_t step, int64_t epochs);
  bool should_stop() const { return patience_ > 0 && state_.epochs_without_progress >= patience_; }

  const State& state() const { return state_; }
  void restore(const State& state) { state_ = state; }

 private:
  int64_t patience_;
  double min_delta_;
  State state_;
};

}  // namespace stemfabric
