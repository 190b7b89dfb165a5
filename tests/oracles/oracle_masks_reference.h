// Estimates by oracle masks from the formulas of trainer/evaluation/oracle_masks.h, the whole track
// at once. T = double is the oracle; with T = float the transforms are the plainest in float32 and
// the rest float64, as the contract asks.
#pragma once

#include <cstdint>
#include <vector>

namespace stemfabric::test {

enum class ReferenceMask : uint8_t { kRatio, kPower, kWiener };

struct OracleMasksInput {
  ReferenceMask mask;
  int64_t stems, channels, samples;
  int64_t n_fft, hop_length;
  std::vector<double> mixture;  // [C, N]
  std::vector<double> sources;  // [S, C, N]
};

template <typename T>
std::vector<double> oracle_masks_reference(const OracleMasksInput& in);  // [S, C, N]

}  // namespace stemfabric::test
