// A trained model for other programs: what `stemfabric export` does (docs/export.md).
//
//   <output_dir>/
//     model.h5              Keras weights                keras-h5      trainer/export/keras_h5.h
//     tfjs/model.json, …    TensorFlow.js graph model    tfjs          trainer/export/tfjs_graph.h
//     model.onnx            ONNX                         onnx          trainer/export/onnx_graph.h
//     model.safetensors     weights and statistics       safetensors   docs/weights.md
//     model_card.{md,json}  trainer/export/model_card.h
//
// Equal weights give equal files (the card's, too, unless an evaluation report says when it was
// made).
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "runtime/device/execution_context.h"
#include "trainer/export/model_card.h"
#include "trainer/export/web_weights.h"

namespace stemfabric {

enum class ExportFormat : uint8_t { kKerasH5, kTfjs, kOnnx, kSafetensors };

// "keras-h5,onnx" -> the formats; UsageError for what is unknown, repeated or empty.
std::vector<ExportFormat> parse_export_formats(const std::string& text);

struct ExportRequest {
  std::filesystem::path model;  // weights file or folder of a training run
  std::vector<ExportFormat> formats;
  std::filesystem::path output_dir;
  std::filesystem::path evaluation;  // see find_evaluation()
  std::string licence;
  WebWeights web_weights = WebWeights::kFp32;  // of tfjs
};

struct ExportResult {
  std::filesystem::path weights;
  std::vector<ExportedFile> files;
  std::map<std::string, double> agreement;  // of each format, see verification.h
  std::optional<WebWeightsLoss> web_weights;
};

// Writes into a folder beside output_dir, reads every file back, runs it, compares it with the
// trainer, and only then gives the folder its name: whatever fails, nothing is left and an earlier
// export stays. output_dir may be missing, empty or an earlier export; UsageError if anything lies
// in it that the card there does not list, or whose content has changed. ConfigError for a model
// that a format cannot express. Packed web weights are compared with a trainer that has the same
// rounded weights, and what the rounding changed is measured.
ExportResult export_model(const ExecutionContext& ctx, const ExportRequest& request);

}  // namespace stemfabric
