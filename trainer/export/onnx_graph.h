// The model as an ONNX file: opset 17, IR version 8, float32.
//
//   input   stem_features [batch, time, F], mask [batch, time] (required: 1 = token present)
//   output  one [batch, time, out] per stem, named by it
// batch and time are open. More tokens than max_sequence_length make the graph fail where rows of
// a position table meet the tokens. metadata_props: `stemfabric`, see graph_metadata().
#pragma once

#include <filesystem>

#include "trainer/export/model_weights.h"

namespace stemfabric {

// Atomic; equal weights give equal bytes. InputError if the model is too large for such a file
// (2 GiB).
void write_onnx(const std::filesystem::path& path, const ModelWeights& weights);

}  // namespace stemfabric
