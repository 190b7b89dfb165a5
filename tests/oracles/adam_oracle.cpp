#include "tests/oracles/adam_oracle.h"

#include <cmath>

namespace stemfabric::test {

template <typename T>
void adam_oracle(AdamState<T>& state, const std::vector<double>& gradient, const AdamArgs& args) {
  const T beta1 = static_cast<T>(args.beta1);
  const T beta2 = static_cast<T>(args.beta2);
  const T lr = static_cast<T>(args.lr);
  const T decay = static_cast<T>(args.weight_decay);
  const T epsilon = static_cast<T>(args.epsilon);
  const T correction1 = static_cast<T>(1 - std::pow(args.beta1, static_cast<double>(args.step)));
  const T correction2 = static_cast<T>(1 - std::pow(args.beta2, static_cast<double>(args.step)));
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    T& w = state.parameter[i];
    T& m = state.m[i];
    T& v = state.v[i];
    T g = static_cast<T>(args.grad_scale) * static_cast<T>(gradient[i]);
    if (args.decoupled) {
      w = w - lr * decay * w;
    } else {
      g = g + decay * w;
    }
    m = beta1 * m + static_cast<T>(1 - args.beta1) * g;
    v = beta2 * v + static_cast<T>(1 - args.beta2) * g * g;
    if (args.form == AdamForm::kTorch) {
      w = w - lr * (m / correction1) / (std::sqrt(v / correction2) + epsilon);
    } else {
      w = w - lr * std::sqrt(correction2) / correction1 * m / (std::sqrt(v) + epsilon);
    }
  }
}

template <typename T>
std::vector<T> ema_oracle(const std::vector<double>& average, const std::vector<double>& parameter,
                          double momentum) {
  std::vector<T> out(average.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<T>(momentum) * static_cast<T>(average[i]) +
             static_cast<T>(1 - momentum) * static_cast<T>(parameter[i]);
  }
  return out;
}

template void adam_oracle(AdamState<float>&, const std::vector<double>&, const AdamArgs&);
template void adam_oracle(AdamState<double>&, const std::vector<double>&, const AdamArgs&);
template std::vector<float> ema_oracle(const std::vector<double>&, const std::vector<double>&,
                                       double);
template std::vector<double> ema_oracle(const std::vector<double>&, const std::vector<double>&,
                                        double);

}  // namespace stemfabric::test
