// metrics.jsonl (one JSON object per step) and epochs.jsonl (one per validation and per epoch),
// appended as training goes. Keys: docs/training.md.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/training/phase_times.h"
#include "trainer/training/training_state.h"

namespace stemfabric {

class MetricsLog {
 public:
  // Opens for appending after the first `keep_bytes` bytes; what follows them is cut off (steps
  // that a resumed run takes again). A log shorter than that is kept and reported with a warning.
  MetricsLog(const std::filesystem::path& path, uint64_t keep_bytes);
  ~MetricsLog();
  MetricsLog(const MetricsLog&) = delete;
  MetricsLog& operator=(const MetricsLog&) = delete;

  void append(std::string_view line);  // without the line break; IoError
  void sync();                         // fsync: before a checkpoint that records bytes()
  uint64_t bytes() const { return bytes_; }

 private:
  std::filesystem::path path_;
  int file_ = -1;
  uint64_t bytes_ = 0;
};

// What one optimiser step did.
struct StepRecord {
  int64_t step = 0;   // counts from 1
  int64_t epoch = 0;  // counts from 1
  LossValues loss;    // before the step
  double lr = 0;
  double grad_norm = 0;  // before clipping
  int64_t samples = 0;
  PhaseTimes seconds;
  std::string skipped;                  // why the step was skipped; empty if it was taken
  std::vector<std::string> sample_ids;  // of a skipped step
};
std::string step_line(const StepRecord& record);
std::string validation_line(int64_t step, int64_t epoch, const LossValues& loss,
                            const std::optional<StemValues>& sdr, int64_t samples, double seconds);
std::string epoch_line(const EpochRecord& record, bool best, const PhaseTimes& seconds);

}  // namespace stemfabric
