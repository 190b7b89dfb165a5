// The shapes of the linear layer that its test and its benchmark share.
#pragma once

#include <cstdint>
#include <vector>

namespace stemfabric::test {

struct LinearCase {
  const char* name;
  int64_t m, k, n;
  double flops() const {
    return 2.0 * static_cast<double>(m) * static_cast<double>(k) * static_cast<double>(n);
  }
};

// The layers of the default model with so many tokens in a batch.
inline std::vector<LinearCase> default_model_layers(int64_t m) {
  return {
      {"input_and_output", m, 256, 256},  // input, attention output, six head outputs
      {"query_key_value", m, 256, 768},   // fused
      {"feed_forward_1", m, 256, 1024},  {"feed_forward_2", m, 1024, 256},
      {"head_hidden", m, 256, 1536},  // six heads fused
  };
}
inline std::vector<LinearCase> default_model_linear_cases() {
  return default_model_layers(8 * 256);
}
// At batch 32, 512 tokens, which fill a GPU.
inline std::vector<LinearCase> gpu_linear_cases() { return default_model_layers(32 * 512); }

// Sizes below, at and above the edges of register tiles, vectors and blocks of k; ones and zeros.
inline std::vector<LinearCase> edge_linear_cases() {
  return {
      {"one", 1, 1, 1},
      {"row", 1, 37, 50},
      {"column", 29, 40, 1},
      {"outer_product", 13, 1, 33},
      {"tiny_head", 9, 10, 6},
      {"vector", 12, 16, 16},
      {"tile", 12, 32, 32},
      {"tile_plus_1", 13, 33, 33},
      {"tile_minus_1", 11, 31, 31},
      {"small_tile", 6, 5, 16},
      {"block_of_k", 20, 256, 40},
      {"block_of_k_plus_1", 7, 257, 19},
      {"three_blocks", 25, 700, 35},
      {"many_rows", 301, 24, 18},
      {"wide", 5, 9, 301},
      {"no_rows", 0, 7, 5},
      {"no_columns", 5, 7, 0},
      {"no_depth", 5, 0, 7},
  };
}

}  // namespace stemfabric::test
