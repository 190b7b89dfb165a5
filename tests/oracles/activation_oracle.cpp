#include "tests/oracles/activation_oracle.h"

#include <cmath>

namespace stemfabric::test {
namespace {

template <typename T>
T sigmoid(T x) {
  return T{1} / (T{1} + std::exp(-x));
}

}  // namespace

template <typename T>
T activation_oracle(Activation activation, const QuantumCoefficients& q, T x) {
  const T r = x <= T{0} ? T{0} : x;  // NaN stays NaN
  switch (activation) {
    case Activation::kRelu:
      return r;
    case Activation::kReluQuantum:
      return T{q.sigmoid} * sigmoid(r) + T{q.tanh} * std::tanh(r) + T{q.relu} * r;
    case Activation::kNone:
      break;
  }
  return x;
}

template <typename T>
T activation_derivative_oracle(Activation activation, const QuantumCoefficients& q, T x) {
  if (activation == Activation::kNone) {
    return T{1};
  }
  if (x <= T{0}) {
    return T{0};
  }
  if (activation == Activation::kRelu) {
    return T{1};
  }
  // sigmoid' = 1 / (2 cosh(x/2))², tanh' = 1 / cosh²(x): no difference of nearly equal values.
  const T sigmoid_root = T{0.5} / std::cosh(x / T{2});
  const T tanh_root = T{1} / std::cosh(x);
  return T{q.sigmoid} * sigmoid_root * sigmoid_root + T{q.tanh} * tanh_root * tanh_root + T{q.relu};
}

template float activation_oracle(Activation, const QuantumCoefficients&, float);
template double activation_oracle(Activation, const QuantumCoefficients&, double);
template float activation_derivative_oracle(Activation, const QuantumCoefficients&, float);
template double activation_derivative_oracle(Activation, const QuantumCoefficients&, double);

}  // namespace stemfabric::test
