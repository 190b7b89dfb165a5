// The elementwise activations on the six heads' hidden layer.
#include "kernels/activation/activation.h"

#include <fmt/core.h>

#include <memory>

#include "benchmarks/support/kernel_benchmark.h"
#include "benchmarks/support/random_tensor.h"
#include "tests/oracles/activation_oracle.h"
#include "tests/support/bf16.h"

namespace stemfabric::benchmarks {
namespace {

struct Data {
  Data(const ExecutionContext& ctx, const Shape& shape, DType dtype)
      : x(random_tensor(ctx, shape, 1, -4, 4, dtype)),
        dy(random_tensor(ctx, shape, 2, -1, 1, dtype)),
        out(output_tensor(ctx, shape, dtype)) {}
  Tensor x, dy, out;
};

template <typename T>
std::vector<double> expected(const ExecutionContext& ctx, const Data& data, bool gradient) {
  const auto x = values_of(ctx, data.x);
  const auto dy = values_of(ctx, data.dy);
  std::vector<double> out;
  out.reserve(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const T at = static_cast<T>(x[i]);
    const T value = gradient
                        ? test::activation_derivative_oracle(Activation::kReluQuantum, {}, at) *
                              static_cast<T>(dy[i])
                        : test::activation_oracle(Activation::kReluQuantum, {}, at);
    out.push_back(value);
  }
  return out;
}

std::function<void()> prepare(const ExecutionContext& ctx, const Shape& shape, bool gradient,
                              DType dtype) {
  auto data = std::make_shared<Data>(ctx, shape, dtype);
  std::function<void()> run = [&ctx, data, gradient] {
    if (gradient) {
      activation_backward(ctx, {.activation = Activation::kReluQuantum,
                                .x = data->x.view(),
                                .dy = data->dy.view(),
                                .dx = data->out.view()});
    } else {
      activation_forward(
          ctx,
          {.activation = Activation::kReluQuantum, .x = data->x.view(), .y = data->out.view()});
    }
  };
  run();
  const std::vector<double> naive = expected<float>(ctx, *data, gradient);
  require_within_bound("relu_quantum", values_of(ctx, data->out),
                       dtype == DType::kBF16 ? test::rounded_to_bf16(naive) : naive,
                       expected<double>(ctx, *data, gradient));
  return run;
}

bool register_all() {
  struct Size {
    int64_t rows, columns;
    RunsOn on;
    DType dtype = DType::kF32;
  };
  for (const Size& size : {Size{2048, 1536, RunsOn::kAny}, Size{16384, 1536, RunsOn::kGpu},
                           Size{2048, 1536, RunsOn::kCpu, DType::kBF16},
                           Size{16384, 1536, RunsOn::kGpu, DType::kBF16}}) {
    for (const bool gradient : {false, true}) {
      const Shape shape{size.rows, size.columns};
      const auto element = static_cast<int64_t>(dtype_size(size.dtype));
      register_kernel(
          {.name = fmt::format("relu_quantum_{}/{}x{}{}", gradient ? "backward" : "forward",
                               size.rows, size.columns, implementation_name(size.dtype)),
           .on = size.on,
           .bytes = static_cast<double>(shape.elements() * element * (gradient ? 3 : 2)),
           .prepare = [=, dtype = size.dtype](const auto& ctx) {
             return prepare(ctx, shape, gradient, dtype);
           }});
    }
  }
  return true;
}
const bool kRegistered = register_all();

}  // namespace
}  // namespace stemfabric::benchmarks
