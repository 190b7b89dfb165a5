// Residual + dropout + layer norm, forward and backward.
#include "kernels/residual_norm/residual_norm.h"

#include <memory>

#include "benchmarks/support/kernel_benchmark.h"
#include "benchmarks/support/random_tensor.h"
#include "tests/oracles/residual_norm_cases.h"
#include "tests/oracles/residual_norm_oracle.h"
#include "tests/support/bf16.h"

namespace stemfabric::benchmarks {
namespace {

struct Data {
  Data(const ExecutionContext& ctx, const test::ResidualNormCase& c, DType dtype)
      : shape{.m = c.m,
              .c = c.c,
              .tokens_per_sample = c.tokens,
              .epsilon = static_cast<double>(1e-5f),
              .dropout = {.p = static_cast<float>(c.dropout),
                          .key = philox_launch_key(42, 3, 1, 2)}},
        x(random_tensor(ctx, {c.m, c.c}, 1, -1, 1, dtype)),
        residual(random_tensor(ctx, {c.m, c.c}, 2, -1, 1, dtype)),
        gamma(random_tensor(ctx, {c.c}, 3, 0.5, 1.5)),
        beta(random_tensor(ctx, {c.c}, 4)),
        dy(random_tensor(ctx, {c.m, c.c}, 5, -1, 1, dtype)),
        sum(output_tensor(ctx, {c.m, c.c}, dtype)),
        y(output_tensor(ctx, {c.m, c.c}, dtype)),
        mean(output_tensor(ctx, {c.m})),
        rstd(output_tensor(ctx, {c.m})),
        dresidual(output_tensor(ctx, {c.m, c.c}, dtype)),
        dx(output_tensor(ctx, {c.m, c.c}, dtype)),
        dgamma(zero_tensor(ctx, {c.c})),
        dbeta(zero_tensor(ctx, {c.c})) {}

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

// The sum, and the norm of the sum that was kept: in bf16 it was rounded before.
template <typename T>
std::vector<double> expected_sum(const ExecutionContext& ctx, const Data& data) {
  return test::widen(test::residual_norm_oracle<T>(
                         data.shape, values_of(ctx, data.x), values_of(ctx, data.residual),
                         values_of(ctx, data.gamma), values_of(ctx, data.beta))
                         .sum);
}
template <typename T>
std::vector<double> expected(const ExecutionContext& ctx, const Data& data, bool gradient) {
  if (gradient) {
    return test::widen(test::residual_norm_gradient_oracle<T>(
                           data.shape, values_of(ctx, data.dy), {}, values_of(ctx, data.sum),
                           values_of(ctx, data.mean), values_of(ctx, data.rstd),
                           values_of(ctx, data.gamma))
                           .dx);
  }
  return test::widen(test::residual_norm_oracle<T>(data.shape, {}, values_of(ctx, data.sum),
                                                   values_of(ctx, data.gamma),
                                                   values_of(ctx, data.beta))
                         .y);
}

void verify(const ExecutionContext& ctx, const std::string& what, const Data& data, bool gradient) {
  const bool bf16 = data.x.dtype() == DType::kBF16;
  const auto require = [&](const Tensor& result, const std::vector<double>& naive,
                           const std::vector<double>& oracle) {
    require_within_bound(what, values_of(ctx, result), bf16 ? test::rounded_to_bf16(naive) : naive,
                         oracle, bf16 ? test::kBf16Floor : test::Floor{});
  };
  if (!gradient) {
    require(data.sum, expected_sum<float>(ctx, data), expected_sum<double>(ctx, data));
  }
  require(gradient ? data.dx : data.y, expected<float>(ctx, data, gradient),
          expected<double>(ctx, data, gradient));
}

std::function<void()> prepare(const ExecutionContext& ctx, const test::ResidualNormCase& c,
                              bool gradient, DType dtype) {
  auto data = std::make_shared<Data>(ctx, c, dtype);
  data->forward(ctx);
  data->backward(ctx);
  verify(ctx, c.name, *data, gradient);
  return [&ctx, data, gradient] { gradient ? data->backward(ctx) : data->forward(ctx); };
}

void register_cases(const std::vector<test::ResidualNormCase>& cases, RunsOn on,
                    DType dtype = DType::kF32) {
  for (const test::ResidualNormCase& c : cases) {
    for (const bool gradient : {false, true}) {
      register_kernel(
          {.name = (gradient ? "residual_norm_backward/" : "residual_norm_forward/") + c.name +
                   implementation_name(dtype),
           .on = on,
           .bytes = static_cast<double>(c.bytes()) * static_cast<double>(dtype_size(dtype)) / 4,
           .prepare = [=](const auto& ctx) { return prepare(ctx, c, gradient, dtype); }});
    }
  }
}

bool register_all() {
  register_cases(test::residual_norm_benchmark_cases(), RunsOn::kAny);
  register_cases(test::residual_norm_gpu_benchmark_cases(), RunsOn::kGpu);
  register_cases(test::residual_norm_benchmark_cases(), RunsOn::kCpu, DType::kBF16);
  register_cases(test::residual_norm_gpu_benchmark_cases(), RunsOn::kGpu, DType::kBF16);
  return true;
}
const bool kRegistered = register_all();

}  // namespace
}  // namespace stemfabric::benchmarks
