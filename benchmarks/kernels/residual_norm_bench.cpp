// Residual + dropout + layer norm, forward and backward.
#include "kernels/residual_norm/residual_norm.h"

#include <memory>

#include "benchmarks/support/kernel_benchmark.h"
#include "benchmarks/support/random_tensor.h"
#include "tests/oracles/residual_norm_cases.h"
#include "tests/oracles/residual_norm_oracle.h"

namespace stemfabric::benchmarks {
namespace {

struct Data {
  explicit Data(const test::ResidualNormCase& c)
      : shape{.m = c.m,
              .c = c.c,
              .tokens_per_sample = c.tokens,
              .epsilon = static_cast<double>(1e-5f),
              .dropout = {.p = static_cast<float>(c.dropout),
                          .key = philox_launch_key(42, 3, 1, 2)}},
        x(random_tensor({c.m, c.c}, 1)),
        residual(random_tensor({c.m, c.c}, 2)),
        gamma(random_tensor({c.c}, 3, 0.5, 1.5)),
        beta(random_tensor({c.c}, 4)),
        dy(random_tensor({c.m, c.c}, 5)),
        sum({c.m, c.c}, DType::kF32),
        y({c.m, c.c}, DType::kF32),
        mean({c.m}, DType::kF32),
        rstd({c.m}, DType::kF32),
        dresidual({c.m, c.c}, DType::kF32),
        dx({c.m, c.c}, DType::kF32),
        dgamma(Tensor::zeros({c.c}, DType::kF32)),
        dbeta(Tensor::zeros({c.c}, DType::kF32)) {}

  void forward(const ExecutionContext& ctx) {
    residual_norm_forward(ctx, {.x = x.view(),
                                .residual = residual.view(),
                                .gamma = gamma.view(),
                                .beta = beta.view(),
                                .sum = sum.view(),
                                .y = y.view(),
                                .mean = mean.view(),
                                .rstd = rstd.view(),
                                .dropout = shape.dropout,
                                .tokens_per_sample = shape.tokens_per_sample});
  }
  void backward(const ExecutionContext& ctx) {
    residual_norm_backward(ctx, {.dy = dy.view(),
                                 .sum = sum.view(),
                                 .mean = mean.view(),
                                 .rstd = rstd.view(),
                                 .gamma = gamma.view(),
                                 .dresidual = dresidual.view(),
                                 .dx = dx.view(),
                                 .dgamma = dgamma.view(),
                                 .dbeta = dbeta.view(),
                                 .dropout = shape.dropout,
                                 .tokens_per_sample = shape.tokens_per_sample});
  }

  test::ResidualNormShape shape;
  Tensor x, residual, gamma, beta, dy, sum, y, mean, rstd, dresidual, dx, dgamma, dbeta;
};

template <typename T>
std::vector<double> expected(const Data& data, bool gradient) {
  if (gradient) {
    return test::widen(test::residual_norm_gradient_oracle<T>(
                           data.shape, values_of(data.dy), {}, values_of(data.sum),
                           values_of(data.mean), values_of(data.rstd), values_of(data.gamma))
                           .dx);
  }
  return test::widen(test::residual_norm_oracle<T>(data.shape, values_of(data.x),
                                                   values_of(data.residual), values_of(data.gamma),
                                                   values_of(data.beta))
                         .y);
}

std::function<void()> prepare(const ExecutionContext& ctx, const test::ResidualNormCase& c,
                              bool gradient) {
  auto data = std::make_shared<Data>(c);
  data->forward(ctx);
  data->backward(ctx);
  require_within_bound(c.name, values_of(gradient ? data->dx : data->y),
                       expected<float>(*data, gradient), expected<double>(*data, gradient));
  return [&ctx, data, gradient] { gradient ? data->backward(ctx) : data->forward(ctx); };
}

bool register_all() {
  for (const test::ResidualNormCase& c : test::residual_norm_benchmark_cases()) {
    for (const bool gradient : {false, true}) {
      register_kernel(
          {.name = (gradient ? "residual_norm_backward/" : "residual_norm_forward/") + c.name +
                   "/stemfabric",
           .bytes = static_cast<double>(c.bytes()),
           .prepare = [c, gradient](const auto& ctx) { return prepare(ctx, c, gradient); }});
    }
  }
  return true;
}
const bool kRegistered = register_all();

}  // namespace
}  // namespace stemfabric::benchmarks
