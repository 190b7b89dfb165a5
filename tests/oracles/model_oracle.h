// The whole model and its loss in float64, written from the formulas of docs/model.md with plain
// loops: no fused products, no tiles, no shared code with the implementation. T×T matrices are
// formed. For tests of small models. T = double is the oracle, T = float the naive computation.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "trainer/config/config.h"

namespace stemfabric::test {

struct ModelOracle {
  ModelConfig config;
  std::map<std::string, std::vector<double>> parameters;  // by name, row-major [in, out]
  std::vector<double> mean, scale;                        // [F]; empty: 0 and 1

  // Dropout as in training: probabilities from the config, bits from these.
  bool training = false;
  uint64_t seed = 0;
  uint64_t step = 0;
  int64_t sample0 = 0;

  template <typename T>
  struct Result {
    std::vector<T> output;                       // [6, B, T, out]
    std::map<std::string, std::vector<T>> taps;  // [B, T, dim]
  };
  // x [B, T, F], mask [B, T] (empty: all ones).
  template <typename T>
  Result<T> forward(const std::vector<double>& x, const std::vector<double>& mask, int64_t batch,
                    int64_t tokens) const;
};

// Σ_s Σ_b weight[b,s] Σ_{t,o} present (prediction − target)² / Σ present; masks may be empty.
struct LossOracle {
  std::vector<double> target;       // [6, B, T, out]
  std::vector<double> target_mask;  // [6, B, T, out]
  std::vector<double> key_mask;     // [B, T]
  std::vector<double> weight;       // [B, 6]
  double operator()(const std::vector<double>& prediction, int64_t batch, int64_t tokens,
                    int64_t outputs) const;
};

}  // namespace stemfabric::test
