// The features from the formulas of stft_features.h, one frame and one value after the other.
#pragma once

#include <vector>

#include "tests/oracles/stft_oracle.h"

namespace stemfabric::test {

// Channels 2b and 2b + 1 of the input are left and right of batch sample b.
template <typename T>
std::vector<double> stft_features_oracle(const StftInput& in, double sample_rate);  // [B, T, 256]

// The edges of the 128 bands, for n_fft/2 + 1 bins.
std::vector<int> feature_edges_oracle(int64_t bins);

}  // namespace stemfabric::test
