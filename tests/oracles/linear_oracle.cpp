#include "tests/oracles/linear_oracle.h"

#include "tests/oracles/activation_oracle.h"

namespace stemfabric::test {
namespace {

template <typename T>
T element(const std::vector<double>& values, int64_t index) {
  return static_cast<T>(values[static_cast<std::size_t>(index)]);
}

}  // namespace

template <typename T>
LinearOutput<T> linear_forward_oracle(const LinearSizes& size, const std::vector<double>& x,
                                      const std::vector<double>& kernel,
                                      const std::vector<double>& bias,
                                      const std::vector<double>& row_bias,
                                      const LinearActivation& activation) {
  LinearOutput<T> out;
  const int64_t period = size.n == 0 ? 1 : static_cast<int64_t>(row_bias.size()) / size.n;
  for (int64_t m = 0; m < size.m; ++m) {
    for (int64_t n = 0; n < size.n; ++n) {
      T sum{0};
      for (int64_t k = 0; k < size.k; ++k) {
        sum += element<T>(x, m * size.k + k) * element<T>(kernel, k * size.n + n);
      }
      sum += bias.empty() ? T{0} : element<T>(bias, n);
      sum += row_bias.empty() ? T{0} : element<T>(row_bias, m % period * size.n + n);
      out.pre_activation.push_back(sum);
      out.y.push_back(activation_oracle(activation.activation, activation.quantum, sum));
    }
  }
  return out;
}

template <typename T>
std::vector<T> linear_backward_input_oracle(const LinearSizes& size, const std::vector<double>& dy,
                                            const std::vector<double>& kernel,
                                            const std::vector<double>& saved,
                                            const LinearActivation& activation,
                                            const std::vector<double>& dx_before) {
  std::vector<T> dx;
  for (int64_t m = 0; m < size.m; ++m) {
    for (int64_t k = 0; k < size.k; ++k) {
      T sum{0};
      for (int64_t n = 0; n < size.n; ++n) {
        sum += element<T>(dy, m * size.n + n) * element<T>(kernel, k * size.n + n);
      }
      const int64_t index = m * size.k + k;
      if (!saved.empty()) {
        sum *= activation_derivative_oracle(activation.activation, activation.quantum,
                                            element<T>(saved, index));
      }
      dx.push_back(dx_before.empty() ? sum : element<T>(dx_before, index) + sum);
    }
  }
  return dx;
}

template <typename T>
LinearKernelGradient<T> linear_backward_kernel_oracle(const LinearSizes& size,
                                                      const std::vector<double>& x,
                                                      const std::vector<double>& dy,
                                                      const std::vector<double>& dkernel_before,
                                                      const std::vector<double>& dbias_before) {
  LinearKernelGradient<T> out;
  for (int64_t k = 0; k < size.k; ++k) {
    for (int64_t n = 0; n < size.n; ++n) {
      T sum{0};
      for (int64_t m = 0; m < size.m; ++m) {
        sum += element<T>(x, m * size.k + k) * element<T>(dy, m * size.n + n);
      }
      out.dkernel.push_back(element<T>(dkernel_before, k * size.n + n) + sum);
    }
  }
  for (int64_t n = 0; n < size.n; ++n) {
    T sum{0};
    for (int64_t m = 0; m < size.m; ++m) {
      sum += element<T>(dy, m * size.n + n);
    }
    out.dbias.push_back(element<T>(dbias_before, n) + sum);
  }
  return out;
}

#define SF_INSTANTIATE(T)                                                               \
  template LinearOutput<T> linear_forward_oracle(                                       \
      const LinearSizes&, const std::vector<double>&, const std::vector<double>&,       \
      const std::vector<double>&, const std::vector<double>&, const LinearActivation&); \
  template std::vector<T> linear_backward_input_oracle(                                 \
      const LinearSizes&, const std::vector<double>&, const std::vector<double>&,       \
      const std::vector<double>&, const LinearActivation&, const std::vector<double>&); \
  template LinearKernelGradient<T> linear_backward_kernel_oracle(                       \
      const LinearSizes&, const std::vector<double>&, const std::vector<double>&,       \
      const std::vector<double>&, const std::vector<double>&)
SF_INSTANTIATE(float);
SF_INSTANTIATE(double);
#undef SF_INSTANTIATE

}  // namespace stemfabric::test
