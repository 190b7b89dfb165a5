// What is told about an exported model, for people (model_card.md) and programs (model_card.json):
// what it is and is for, its configuration, what it was trained on, how it scored and by which
// definitions, the exported files with their hashes, its licence. No path of the machine is in it.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "trainer/model/trained_model.h"

namespace stemfabric {

struct ExportedFile {
  std::string format;  // "onnx"
  std::string name;    // relative to the export
  uint64_t bytes = 0;
  std::string sha256;
};

// What packed weights cost.
struct WebWeightsLoss {
  std::string kind;                 // "fp16"
  double largest = 0.0, rms = 0.0;  // see ExportReference::Loss
};

struct ModelCard {
  const TrainedModel& trained;
  std::string evaluation;  // evaluation_report.json as text, or empty
  std::string licence;     // empty: not stated
  std::vector<ExportedFile> files;
  std::map<std::string, double> agreement;  // of each format, see verification.h
  std::optional<WebWeightsLoss> web_weights;
};

// The evaluation_report.json about these weights. `stated` must be one; without it, the first of
// evaluation/evaluation_report.json and evaluation_report.json in the run folder, and
// evaluation/evaluation_report.json beside it; empty if there is none, or (with a warning) if what
// is there speaks of other weights. InputError for a stated file that does.
std::string find_evaluation(const TrainedModel& trained, const std::filesystem::path& stated);

inline constexpr const char* kModelCardPage = "model_card.md";
inline constexpr const char* kModelCardData = "model_card.json";
void write_model_card(const std::filesystem::path& folder, const ModelCard& card);

// The files that the model_card.json of an export in this folder lists: SHA-256 by name. Empty if
// there is none, or none that this program wrote.
std::map<std::string, std::string> files_of_model_card(const std::filesystem::path& folder);

}  // namespace stemfabric
