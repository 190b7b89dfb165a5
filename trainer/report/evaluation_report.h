// The reports of an evaluation: JSON for programs, one self-contained HTML page for people.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "runtime/device/device.h"
#include "trainer/evaluation/audio_evaluation.h"
#include "trainer/evaluation/evaluation.h"
#include "trainer/report/audio_examples.h"

namespace stemfabric {

// What the report of an audio data set has besides.
struct AudioReport {
  std::vector<AudioTrackEvaluation> tracks;  // of the records, in their order
  std::vector<AudioExample> examples;
};

struct ReportInputs {
  std::string timestamp;  // ISO 8601, UTC
  Device device;          // that the model ran on, and of audio BSS-Eval
  std::string dataset_dir, split;
  std::string data_hash;    // of the whole data set, as in its manifest and in weights
  std::string split_hash;   // of the split that was evaluated
  std::string target_kind;  // "samples", "bands" or empty if the manifest does not say
  bool has_model = false;
  std::string model_path, model_hash;
  std::string run_folder;  // of the training run; may be empty
  // JSON: the whole configuration of the training run if `config_source` names the file that holds
  // it; else empty, and only the model is known.
  std::string config, config_source;
  std::string model_config;                     // JSON
  std::map<std::string, std::string> training;  // seed, codeVersion, codeRevision, dataHash, step
  const std::vector<RecordEvaluation>& records;
  const EvaluationSummary& summary;
  const AudioReport* audio = nullptr;  // null: of snapshots
};

// What is said about targets no feature can predict; empty otherwise.
std::string target_note(const std::string& target_kind);

// Where the report's configuration comes from, and whether it is all of it.
std::string config_source_text(const ReportInputs& report);

// Atomic; records are written one by one. Undefined values are null.
void write_evaluation_json(const std::filesystem::path& path, const ReportInputs& report);
// Loss curves come from <run_folder>/training_history.json and metrics.jsonl where they exist.
void write_evaluation_html(const std::filesystem::path& path, const ReportInputs& report);

}  // namespace stemfabric
