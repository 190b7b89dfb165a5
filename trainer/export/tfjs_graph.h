// The model as a TensorFlow.js graph model: a folder with model.json (topology, signature, manifest
// of the weights) and group1-shard<i>of<n>.bin (the weights, cut every 4 MiB). Plain
// tf.loadGraphModel() runs it; made of operations that TensorFlow.js knows.
//
//   input   stem_features [B, T, F]; mask [B, T] (1 = token present), which may be left out: then
//           all are. With a mask: predict({stem_features: x, mask: m}).
//   output  predict() gives {vocals: [B, T, out], …}, by the stems
// B and T are open; more tokens than max_sequence_length are an error in every Slice of a position
// table. userDefinedMetadata.stemfabric: graph_metadata(), and the SHA-256 of the shards.
#pragma once

#include <filesystem>

#include "trainer/export/web_weights.h"

namespace stemfabric {

// Fills a folder that is there and empty. Equal weights give equal bytes. Packed weights expand to
// float32 when they are loaded. InputError if a weight is too large for fp16.
void write_tfjs(const std::filesystem::path& folder, const ModelWeights& weights,
                WebWeights kind = WebWeights::kFp32);

}  // namespace stemfabric
