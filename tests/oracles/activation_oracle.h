// The activations from their formulas. T = double is the oracle; T = float is the naive computation
// that the tolerance is derived from.
#pragma once

#include "kernels/activation/activation.h"

namespace stemfabric::test {

template <typename T>
T activation_oracle(Activation activation, const QuantumCoefficients& q, T x);

// d act / d x; 0 at x <= 0 for both activations.
template <typename T>
T activation_derivative_oracle(Activation activation, const QuantumCoefficients& q, T x);

}  // namespace stemfabric::test
