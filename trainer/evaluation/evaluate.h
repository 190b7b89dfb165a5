// What `stemfabric evaluate` and `stemfabric run` call: a model on a split of a data set, with the
// reports evaluation_report.json and report.html (docs/evaluation.md). Of an audio data set whole
// tracks are separated, and excerpts of some lie beside the page in audio/
// (docs/audio_training.md).
#pragma once

#include <array>
#include <filesystem>
#include <string>
#include <vector>

#include "trainer/evaluation/evaluation.h"

namespace stemfabric {

struct EvaluateRequest {
  std::filesystem::path dataset_dir;
  std::filesystem::path model;  // weights file or folder of a training run; empty = baseline only
  std::filesystem::path output_dir;  // made if missing
  std::string split = "validation";  // or "train"; of audio also "test"
  int64_t batch_size = 32;
  int64_t num_overlap = 2;  // of audio: SeparationOptions
};

// Of audio: what masks made from the true stems reach, medians over tracks of the SDR in dB; NaN
// where no track has the stem.
struct OracleScores {
  std::string name;
  std::array<double, kStemCount> sdr;
};

struct EvaluateResult {
  EvaluationSummary summary;
  std::vector<OracleScores> oracles;
  std::filesystem::path json;
  std::filesystem::path html;
  std::string note;  // what must be known to read the scores; may be empty
};

// InputError for data and models that do not fit each other; IoError.
EvaluateResult evaluate(const ExecutionContext& ctx, const EvaluateRequest& request);

}  // namespace stemfabric
