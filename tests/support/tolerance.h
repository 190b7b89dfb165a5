// Tolerances that are derived, never tuned:
//
//   error(implementation, oracle)  <=  2 · error(naive same-dtype computation, oracle)  +  floor
//
// The oracle is a float64 computation from the formula; "naive" is the plainest computation in the
// implementation's own dtype (the same oracle template with float). The floor is what rounding the
// result itself may cost: floor_ulps · 2^-24 · size of the oracle. Both the largest error (size =
// largest magnitude) and the root mean square error (size = root mean square) must hold.
//
//   expect_within_bound("y", y.values(), naive.y, oracle.y);
//
// prints and records (property "bound_share_y") how much of the bound was used:
//   [ BOUND    ] y: max 1.2e-07 of 4.7e-07 (26 %), rms 2.4e-08 of 9.3e-08 (26 %)
// Where the oracle is NaN or infinite, the result must be the same; where it is not, the result
// must be finite. Elements that the naive computation loses to overflow give no allowance.
#pragma once

#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace stemfabric::test {

struct Floor {
  double ulps = 2.0;      // in units of 2^-24 times the size of the oracle
  double absolute = 0.0;  // added; state the reason where it is used
};

void expect_within_bound(const std::string& what, std::span<const double> result,
                         std::span<const double> naive, std::span<const double> oracle,
                         Floor floor = {});

// The share of the bound that a result would use (> 1: too far away); for tests of the rule itself
// and for reports. Infinite if the NaN and infinity rule is broken.
double share_of_bound(std::span<const double> result, std::span<const double> naive,
                      std::span<const double> oracle, Floor floor = {});

// float results as the doubles that the functions above take.
template <typename T>
std::vector<double> widen(const std::vector<T>& values) {
  return {values.begin(), values.end()};
}

}  // namespace stemfabric::test
