// The sums of reduction.h, one element after the other. T = double is the oracle, T = float the
// naive computation.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace stemfabric::test {

template <typename T>
double sum_squares_oracle(const std::vector<double>& x) {
  T sum = 0;
  for (double v : x) {
    if (std::isfinite(v)) {
      sum += static_cast<T>(v) * static_cast<T>(v);
    }
  }
  return static_cast<double>(sum);
}

// x [M, N], out [P, N]; returns out + sums. Element (m, n) of x belongs to (m mod P, n) of out,
// which is its flat index modulo P·N.
template <typename T>
std::vector<T> column_sum_oracle(const std::vector<double>& x, const std::vector<double>& out) {
  std::vector<T> sums(out.begin(), out.end());
  for (std::size_t i = 0; i < x.size(); ++i) {
    sums[i % out.size()] += static_cast<T>(x[i]);
  }
  return sums;
}

}  // namespace stemfabric::test
