// Adam written from the formula (Kingma & Ba 2015, algorithm 1; Loshchilov & Hutter 2019,
// algorithm 2). T = double is the oracle, T = float the naive computation.
#pragma once

#include <vector>

#include "kernels/adam/adam.h"

namespace stemfabric::test {

template <typename T>
struct AdamState {
  std::vector<T> parameter, m, v;
};

// One step; `args` gives the settings only, its views are not used.
template <typename T>
void adam_oracle(AdamState<T>& state, const std::vector<double>& gradient, const AdamArgs& args);

template <typename T>
std::vector<T> ema_oracle(const std::vector<double>& average, const std::vector<double>& parameter,
                          double momentum);

}  // namespace stemfabric::test
