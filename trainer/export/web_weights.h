// Weights of fewer bytes for the web. Kernels and the position table are packed; biases, norms and
// input statistics stay float32: they are few, and statistics may have any range.
//
//   fp16  IEEE half precision, rounded to the nearest, ties to even
//   int8  q = round((w − min) / scale), 0 … 255, with scale = (max − min) / 255 per matrix;
//         w' = q · scale + min in float64, rounded to float32, as TensorFlow.js unpacks them
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "trainer/export/model_weights.h"

namespace stemfabric {

enum class WebWeights : uint8_t { kFp32, kFp16, kInt8 };

// "fp32", "fp16", "int8"; UsageError for anything else.
WebWeights parse_web_weights(const std::string& text);
const char* web_weights_name(WebWeights kind);

struct PackedWeights {
  std::string bytes;
  double scale = 0.0, min = 0.0;  // of int8
  std::vector<float> unpacked;    // what a reader gets
};

bool is_packed(const std::string& parameter);  // by its name in docs/weights.md
// InputError (without a file name) if a weight is too large for fp16.
PackedWeights pack_weights(std::span<const float> weights, WebWeights kind);
// The model that a reader of packed weights has.
ModelWeights rounded_weights(const ModelWeights& weights, WebWeights kind);

}  // namespace stemfabric
