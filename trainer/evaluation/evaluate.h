// What `stemfabric evaluate` and `stemfabric run` call: a model on a split of a data set, with the
// reports evaluation_report.json and report.html (docs/evaluation.md).
#pragma once

#include <filesystem>
#include <string>

#include "trainer/evaluation/evaluation.h"

namespace stemfabric {

struct EvaluateRequest {
  std::filesystem::path dataset_dir;
  std::filesystem::path model;  // weights file or folder of a training run; empty = baseline only
  std::filesystem::path output_dir;  // made if missing
  std::string split = "validation";  // or "train"
  int64_t batch_size = 32;
};

struct EvaluateResult {
  EvaluationSummary summary;
  std::filesystem::path json;
  std::filesystem::path html;
  std::string note;  // what must be known to read the scores; may be empty
};

// InputError for data and models that do not fit each other; IoError.
EvaluateResult evaluate(const ExecutionContext& ctx, const EvaluateRequest& request);

}  // namespace stemfabric
