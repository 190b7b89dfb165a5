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
  const T s = sigmoid(x);
  const T t = std::tanh(x);
  return T{q.sigmoid} * s * (T{1} - s) + T{q.tanh} * (T{1} - t * t) + T{q.relu};
}

template float activation_oracle(Activation, const QuantumCoefficients&, float);
template double activation_oracle(Activation, const QuantumCoefficients&, double);
template float activation_derivative_oracle(Activation, const QuantumCoefficients&, float);
template double activation_derivative_oracle(Activation, const QuantumCoefficients&, double);

}  // namespace stemfabric::test
