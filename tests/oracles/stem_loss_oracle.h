// Masked mean squared error per stem from the formula of stem_loss.h. T = double is the oracle;
// T = float forms differences and gradients in float and sums in float64, as the contract asks.
#pragma once

#include <cstdint>
#include <vector>

namespace stemfabric::test {

struct StemLossInput {
  int64_t s, b, t, o;
  std::vector<double> prediction, target;             // [S, B, T, O]
  std::vector<double> target_mask, key_mask, weight;  // may be empty: all 1
};

struct StemLossOutput {
  std::vector<double> count, loss, weighted;  // [S]
  std::vector<double> gradient;               // [S, B, T, O]
};

template <typename T>
StemLossOutput stem_loss_oracle(const StemLossInput& in);

}  // namespace stemfabric::test
