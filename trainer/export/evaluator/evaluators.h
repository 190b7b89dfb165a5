// Exported files, read back and run: what they answer to features and a mask. Each reads the bytes
// of the file by the format's own rules and shares nothing with what wrote it.
//
//   features [B, T, F], mask [B, T] (1 = token present)  ->  {"vocals": [B, T, out], …}
// InputError that names file and place for files that are damaged, lack something, or use
// operations that no export uses; also if a graph refuses the sizes of its inputs.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>

#include "trainer/export/evaluator/array.h"

namespace stemfabric::evaluator {

using StemOutputs = std::map<std::string, Array>;
using Evaluator = std::function<StemOutputs(const Array& features, const Array& mask)>;

// ONNX, opset 17, as onnx_graph.h writes it. The semantics are those of
// github.com/onnx/onnx/blob/main/docs/Operators.md.
Evaluator open_onnx(const std::filesystem::path& path);

// The folder of a TensorFlow.js graph model: model.json and the shards that it names. Each call
// also runs the graph without a mask: InputError if a sample without padding comes out differently.
Evaluator open_tfjs(const std::filesystem::path& folder);

// The formulas of docs/model.md on the weights of a Keras .h5 file, whose layer_names and
// weight_names must be in the order by which Keras pairs them, or of a .safetensors file.
Evaluator open_keras_h5(const std::filesystem::path& path);
Evaluator open_weights(const std::filesystem::path& path);

}  // namespace stemfabric::evaluator
