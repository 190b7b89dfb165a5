// The loss curves of a training run, read from what it wrote: training_history.json (per epoch) and
// metrics.jsonl (per step) and epochs.jsonl (per epoch, if the run did not end). Whatever is
// missing or damaged is left out: a report does not fail for it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "trainer/report/svg_chart.h"

namespace stemfabric {

struct TrainingCurves {
  std::vector<Series> epochs;  // "training loss", "validation loss"; those that exist
  std::vector<Series> steps;   // "loss of a step", in at most kMostPoints averages
  std::vector<Series> rates;   // "learning rate" per step, if it changes
  bool empty() const { return epochs.empty() && steps.empty(); }
};
inline constexpr std::size_t kMostPoints = 600;

TrainingCurves read_training_curves(const std::filesystem::path& run_folder);

}  // namespace stemfabric
