// Residual + dropout + layer norm from the formulas of residual_norm.h, row by row, one element
// after the other. T = double is the oracle, T = float the naive computation.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/common/philox.h"

namespace stemfabric::test {

struct ResidualNormShape {
  int64_t m, c;
  int64_t tokens_per_sample = 1;
  double epsilon = 1e-5;
  DropoutConfig dropout;
};

template <typename T>
struct ResidualNormOutput {
  std::vector<T> sum, y, mean, rstd;
};
// x may be empty.
template <typename T>
ResidualNormOutput<T> residual_norm_oracle(const ResidualNormShape& shape,
                                           const std::vector<double>& x,
                                           const std::vector<double>& residual,
                                           const std::vector<double>& gamma,
                                           const std::vector<double>& beta);

template <typename T>
struct ResidualNormGradient {
  std::vector<T> dresidual, dx, dgamma, dbeta;  // dgamma and dbeta start at 0
};
// dsum may be empty. sum, mean and rstd are what the forward saved.
template <typename T>
ResidualNormGradient<T> residual_norm_gradient_oracle(
    const ResidualNormShape& shape, const std::vector<double>& dy, const std::vector<double>& dsum,
    const std::vector<double>& sum, const std::vector<double>& mean,
    const std::vector<double>& rstd, const std::vector<double>& gamma);

// Is element (row, channel) kept?
bool residual_norm_keeps(const ResidualNormShape& shape, int64_t row, int64_t channel);

}  // namespace stemfabric::test
