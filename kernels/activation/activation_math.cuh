// The activations of activation.h on one element, for every kernel that applies one.
//
// With τ = e^−r: sigmoid = 1/(1+τ) and tanh = (1−τ²)/(1+τ²), so that one exponential and one
// division give both; τ <= 1 cannot overflow. 1 − τ comes from expm1, which keeps tanh's relative
// accuracy at small r.
#pragma once

#include "kernels/activation/activation.h"
#include "kernels/common/launch.cuh"

namespace stemfabric {

// NaN stays NaN.
__device__ __forceinline__ float relu(float x) { return x <= 0 ? 0.0f : x; }

__device__ __forceinline__ float relu_quantum(float x, const QuantumCoefficients& q) {
  const float r = relu(x);
  const float u = -expm1f(-r);  // 1 − τ
  const float tau = 1 - u;
  const float s = 1 + tau;
  const float t = tau * tau + 1;
  const float tanh_part = q.tanh * (u * (s * s));  // over s·t
  return q.relu * r + (q.sigmoid * t + tanh_part) * (1 / (s * t));
}

// d relu_quantum / dx; 0 for x <= 0.
__device__ __forceinline__ float relu_quantum_derivative(float x, const QuantumCoefficients& q) {
  const float tau = expf(-relu(x));
  const float s = 1 + tau;
  const float t = tau * tau + 1;
  const float sech = 2 * tau / t;
  const float slope = q.sigmoid * (tau / (s * s)) + ((q.tanh * sech) * sech + q.relu);
  return x <= 0 ? 0.0f : slope;
}

template <Activation kActivation>
__device__ __forceinline__ float activate(float x, const QuantumCoefficients& q) {
  if constexpr (kActivation == Activation::kRelu) {
    return relu(x);
  } else if constexpr (kActivation == Activation::kReluQuantum) {
    return relu_quantum(x, q);
  } else {
    return x;
  }
}

// act'(saved) · dy. `saved` is the pre-activation; for kRelu its output does as well.
template <Activation kActivation>
__device__ __forceinline__ float activation_gradient(float saved, float dy,
                                                     const QuantumCoefficients& q) {
  if constexpr (kActivation == Activation::kRelu) {
    return saved <= 0 ? 0.0f : dy;
  } else if constexpr (kActivation == Activation::kReluQuantum) {
    return dy * relu_quantum_derivative(saved, q);
  } else {
    return dy;
  }
}

}  // namespace stemfabric
