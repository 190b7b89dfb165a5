// The linear layer and its gradients as plain loops over the formulas in kernels/linear/linear.h.
// T = double is the oracle; T = float is the naive computation that the tolerance is derived from.
// All matrices are dense and row-major; an empty vector marks an absent argument.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/activation/activation.h"

namespace stemfabric::test {

struct LinearSizes {
  int64_t m, k, n;
};

struct LinearActivation {
  Activation activation = Activation::kNone;
  QuantumCoefficients quantum;
};

template <typename T>
struct LinearOutput {
  std::vector<T> y, pre_activation;
};

// y = act(x · kernel + bias + row_bias[m mod P])
template <typename T>
LinearOutput<T> linear_forward_oracle(const LinearSizes& size, const std::vector<double>& x,
                                      const std::vector<double>& kernel,
                                      const std::vector<double>& bias,
                                      const std::vector<double>& row_bias,
                                      const LinearActivation& activation);

// dx = dx_before + act'(saved) ∘ (dy · kernelᵀ)
template <typename T>
std::vector<T> linear_backward_input_oracle(const LinearSizes& size, const std::vector<double>& dy,
                                            const std::vector<double>& kernel,
                                            const std::vector<double>& saved,
                                            const LinearActivation& activation,
                                            const std::vector<double>& dx_before);

template <typename T>
struct LinearKernelGradient {
  std::vector<T> dkernel, dbias;
};

// dkernel = before + xᵀ · dy, dbias = before + Σ_m dy
template <typename T>
LinearKernelGradient<T> linear_backward_kernel_oracle(const LinearSizes& size,
                                                      const std::vector<double>& x,
                                                      const std::vector<double>& dy,
                                                      const std::vector<double>& dkernel_before,
                                                      const std::vector<double>& dbias_before);

}  // namespace stemfabric::test
