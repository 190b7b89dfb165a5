#include "tests/oracles/residual_norm_oracle.h"

#include <cmath>

namespace stemfabric::test {
namespace {

template <typename T>
T dropped(const ResidualNormShape& shape, int64_t row, int64_t channel, T value) {
  if (shape.dropout.p == 0) {
    return value;
  }
  const double threshold = std::floor(65536.0 * static_cast<double>(shape.dropout.p) + 0.5);
  return residual_norm_keeps(shape, row, channel)
             ? value * static_cast<T>(1.0 / (1.0 - threshold / 65536.0))
             : T{0};
}

}  // namespace

bool residual_norm_keeps(const ResidualNormShape& shape, int64_t row, int64_t channel) {
  const int64_t sample = shape.dropout.sample0 + row / shape.tokens_per_sample;
  const PhiloxCounter bits = philox4x32_10(
      {{static_cast<uint32_t>(channel / 8), static_cast<uint32_t>(row % shape.tokens_per_sample),
        static_cast<uint32_t>(sample), 0}},
      shape.dropout.key);
  const auto lane = static_cast<int>(channel % 8);
  const uint32_t word = bits.word[lane / 2];
  const uint32_t value = lane % 2 == 0 ? word % 65536 : word / 65536;
  return value >= std::floor(65536.0 * static_cast<double>(shape.dropout.p) + 0.5);
}

template <typename T>
ResidualNormOutput<T> residual_norm_oracle(const ResidualNormShape& shape,
                                           const std::vector<double>& x,
                                           const std::vector<double>& residual,
                                           const std::vector<double>& gamma,
                                           const std::vector<double>& beta) {
  ResidualNormOutput<T> out;
  const auto channels = static_cast<std::size_t>(shape.c);
  for (int64_t row = 0; row < shape.m; ++row) {
    const auto first = static_cast<std::size_t>(row) * channels;
    T mean = 0;
    for (std::size_t c = 0; c < channels; ++c) {
      T sum = static_cast<T>(residual[first + c]);
      if (!x.empty()) {
        sum += dropped(shape, row, static_cast<int64_t>(c), static_cast<T>(x[first + c]));
      }
      out.sum.push_back(sum);
      mean += sum;
    }
    mean /= static_cast<T>(shape.c);
    T variance = 0;
    for (std::size_t c = 0; c < channels; ++c) {
      variance += (out.sum[first + c] - mean) * (out.sum[first + c] - mean);
    }
    variance /= static_cast<T>(shape.c);
    const T rstd = 1 / std::sqrt(variance + static_cast<T>(shape.epsilon));
    for (std::size_t c = 0; c < channels; ++c) {
      out.y.push_back((out.sum[first + c] - mean) * rstd * static_cast<T>(gamma[c]) +
                      static_cast<T>(beta[c]));
    }
    out.mean.push_back(mean);
    out.rstd.push_back(rstd);
  }
  return out;
}

template <typename T>
ResidualNormGradient<T> residual_norm_gradient_oracle(
    const ResidualNormShape& shape, const std::vector<double>& dy, const std::vector<double>& dsum,
    const std::vector<double>& sum, const std::vector<double>& mean,
    const std::vector<double>& rstd, const std::vector<double>& gamma) {
  const auto channels = static_cast<std::size_t>(shape.c);
  ResidualNormGradient<T> out;
  out.dgamma.assign(channels, T{0});
  out.dbeta.assign(channels, T{0});
  for (int64_t row = 0; row < shape.m; ++row) {
    const auto r = static_cast<std::size_t>(row);
    const auto xhat = [&](std::size_t c) {
      return (static_cast<T>(sum[r * channels + c]) - static_cast<T>(mean[r])) *
             static_cast<T>(rstd[r]);
    };
    const auto g = [&](std::size_t c) {
      return static_cast<T>(dy[r * channels + c]) * static_cast<T>(gamma[c]);
    };
    T mean_g = 0;
    T mean_gx = 0;
    for (std::size_t c = 0; c < channels; ++c) {
      mean_g += g(c);
      mean_gx += g(c) * xhat(c);
      out.dgamma[c] += static_cast<T>(dy[r * channels + c]) * xhat(c);
      out.dbeta[c] += static_cast<T>(dy[r * channels + c]);
    }
    mean_g /= static_cast<T>(shape.c);
    mean_gx /= static_cast<T>(shape.c);
    for (std::size_t c = 0; c < channels; ++c) {
      T d = static_cast<T>(rstd[r]) * (g(c) - mean_g - xhat(c) * mean_gx);
      if (!dsum.empty()) {
        d += static_cast<T>(dsum[r * channels + c]);
      }
      out.dresidual.push_back(d);
      out.dx.push_back(dropped(shape, row, static_cast<int64_t>(c), d));
    }
  }
  return out;
}

#define SF_INSTANTIATE(T)                                                                 \
  template ResidualNormOutput<T> residual_norm_oracle(                                    \
      const ResidualNormShape&, const std::vector<double>&, const std::vector<double>&,   \
      const std::vector<double>&, const std::vector<double>&);                            \
  template ResidualNormGradient<T> residual_norm_gradient_oracle(                         \
      const ResidualNormShape&, const std::vector<double>&, const std::vector<double>&,   \
      const std::vector<double>&, const std::vector<double>&, const std::vector<double>&, \
      const std::vector<double>&)
SF_INSTANTIATE(float);
SF_INSTANTIATE(double);
#undef SF_INSTANTIATE

}  // namespace stemfabric::test
