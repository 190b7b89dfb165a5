// Masks and their loss from the formulas of stem_mask.h and mask_bands.h. T = double is the oracle;
// T = float is the plainest float computation with sums of the loss in float64, as the contract
// asks.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/oracles/stem_mask_cases.h"

namespace stemfabric::test {

// Position of every bin on the scale of the bands: u(k) of mask_bands.h, by Newton's method.
std::vector<double> mask_positions(int64_t bands, int64_t bins);

struct StemMaskInput {
  StemMaskCase shape;
  double epsilon = 1e-3;
  std::vector<double> prediction;                  // [S, B, T, O]
  std::vector<double> mixture;                     // [B, C, T, K, 2]
  std::vector<double> target;                      // [S, B, C, T, K, 2]
  std::vector<double> presence, key_mask, weight;  // may be empty: all 1
};

struct StemMaskOutput {
  std::vector<double> estimate;               // [S, B, C, T, K, 2], of what is present; else 0
  std::vector<double> count, loss, weighted;  // [S]
  std::vector<double> gradient;               // [S, B, T, O]
};

template <typename T>
StemMaskOutput stem_mask_oracle(const StemMaskInput& in);

}  // namespace stemfabric::test
