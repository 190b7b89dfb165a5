// Where the time of training goes.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string_view>

namespace stemfabric {

enum class Phase : uint8_t {
  kData,
  kForward,
  kLoss,
  kBackward,
  kReduction,  // of gradients and losses over ranks: what a step waits for
  kOptimizer,
  kValidation,
  kCheckpoint
};
inline constexpr std::array<std::string_view, 8> kPhaseNames = {
    "data", "forward", "loss", "backward", "reduction", "optimizer", "validation", "checkpoint"};

struct PhaseTimes {
  std::array<double, kPhaseNames.size()> seconds{};

  double& operator[](Phase phase) { return seconds[static_cast<std::size_t>(phase)]; }
  void add(const PhaseTimes& other) {
    for (std::size_t i = 0; i < seconds.size(); ++i) {
      seconds[i] += other.seconds[i];
    }
  }
  double total() const {
    double sum = 0;
    for (const double value : seconds) {
      sum += value;
    }
    return sum;
  }
};

inline double seconds_between(std::chrono::steady_clock::time_point begin,
                              std::chrono::steady_clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

// Adds the time of its life to one phase.
class PhaseScope {
 public:
  PhaseScope(PhaseTimes& times, Phase phase) : times_(times), phase_(phase) {}
  ~PhaseScope() { times_[phase_] += seconds_between(begin_, std::chrono::steady_clock::now()); }
  PhaseScope(const PhaseScope&) = delete;
  PhaseScope& operator=(const PhaseScope&) = delete;

 private:
  PhaseTimes& times_;
  Phase phase_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

}  // namespace stemfabric
