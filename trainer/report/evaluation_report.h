// The reports of an evaluation: JSON for programs, one self-contained HTML page for people.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "trainer/evaluation/evaluation.h"

namespace stemfabric {

struct ReportInputs {
  std::string timestamp;  // ISO 8601, UTC
  std::string dataset_dir, split, data_hash;
  std::string target_kind;  // "samples", "bands" or empty if the manifest does not say
  bool has_model = false;
  std::string model_path, model_hash, model_config;  // the latter is JSON
  std::string run_folder;                            // of the training run; may be empty
  const std::vector<RecordEvaluation>& records;
  const EvaluationSummary& summary;
};

// What is said about targets no feature can predict; empty otherwise.
std::string target_note(const std::string& target_kind);

// Atomic; records are written one by one. Undefined values are null.
void write_evaluation_json(const std::filesystem::path& path, const ReportInputs& report);
// Loss curves come from <run_folder>/training_history.json and metrics.jsonl where they exist.
void write_evaluation_html(const std::filesystem::path& path, const ReportInputs& report);

}  // namespace stemfabric
