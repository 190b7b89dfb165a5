// The projections of trainer/evaluation/separation_scores.h another way: least squares through the
// eigenvalues of the Gram matrix, in long double.
#pragma once

#include <vector>

namespace stemfabric::test {

struct SeparationOracle {
  double sdr, sir, sar;
};

// No limit on the values: infinite where a denominator is zero.
SeparationOracle separation_oracle(const std::vector<std::vector<double>>& sources,
                                   const std::vector<double>& estimate, std::size_t source);

}  // namespace stemfabric::test
