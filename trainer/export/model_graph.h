// The model of docs/model.md as a graph for inference: standardised inputs, positions, encoder
// blocks, heads. Everything that the trainer computes is in it, input statistics included, so that
// a client feeds raw features.
//
// Masks, with m = mask as [B, 1, 1, T]:
//   A = softmax(q kᵀ / √D + (m − 1) · 30000)
//   softmax                   G = A · m
//   superposition             G = (α σ(A) + β tanh(A) + γ softmax(A + (m − 1) · 30000)) · m
//   superposition_centered    G = (α tanh(A / 2) + …) · m                  (2σ(A) − 1 = tanh(A /
//   2)) superposition_normalized  G = superposition's G / (its row sum + (1 − max m))
// A sample without any token present has G = 0, as in the trainer. 30000 stays finite in half
// precision, and e^−30000 is 0 in float32: right while scores stay below about 15000.
#pragma once

#include <string>

#include "trainer/export/graph_builder.h"
#include "trainer/export/model_weights.h"

namespace stemfabric {

void build_model_graph(const ModelWeights& weights, GraphBuilder& graph);

// What a graph file says of its model, as JSON: `config` (as in weights files), `stems`,
// `input_statistics` {mean, scale, applied: in the graph} or null, `generator`.
std::string graph_metadata(const ModelWeights& weights);

}  // namespace stemfabric
