// The loss curves of a training run, read from what it wrote: training_history.json (per epoch) and
// metrics.jsonl (per step) and epochs.jsonl (per epoch, if the run did not end). Whatever is
// missing or damaged is left out: a report does not fail for it.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "trainer/report/svg_chart.h"
#include "trainer/stems.h"

namespace stemfabric {

struct TrainingCurves {
  std::vector<Series> epochs;  // "training loss", "validation loss"; those that exist
  std::vector<Series> sdr;     // of audio: mean over stems of the SDR of validation chunks, dB
  std::vector<Series> steps;   // "loss of a step", in at most kMostPoints averages
  std::vector<Series> rates;   // "learning rate" per step, if it changes
  std::vector<Series> norms;   // "gradient norm" per step
  std::array<std::vector<Series>, kStemCount> stems;    // as `epochs`, for each stem
  std::vector<std::pair<std::string, double>> seconds;  // by phase, over the whole run
  int64_t skipped = 0;                                  // steps that were not finite
  bool empty() const { return epochs.empty() && steps.empty(); }
};
inline constexpr std::size_t kMostPoints = 600;

TrainingCurves read_training_curves(const std::filesystem::path& run_folder);
// They as cards with charts, for a page: loss curves, per stem, learning rate, gradient norm, and
// where the time went (with the rest of `total_seconds`, if that is known). Empty if there is
// nothing to show.
std::string training_sections(const TrainingCurves& curves, double total_seconds = 0);

}  // namespace stemfabric
