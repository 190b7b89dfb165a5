// The elementwise activations on the six heads' hidden layer.
#include "kernels/activation/activation.h"

#include <memory>

#include "benchmarks/support/kernel_benchmark.h"
#include "tests/oracles/activation_oracle.h"
#include "tests/support/op_harness.h"

namespace stemfabric::benchmarks {
namespace {

constexpr int64_t kRows = 2048;
constexpr int64_t kColumns = 1536;
constexpr double kBytesOfOne = static_cast<double>(kRows * kColumns * 4);

struct Data {
  test::GuardedTensor x = test::GuardedTensor::random({kRows, kColumns}, 1, -4, 4);
  test::GuardedTensor dy = test::GuardedTensor::random({kRows, kColumns}, 2);
  test::GuardedTensor out{{kRows, kColumns}, DType::kF32};
};

template <typename T>
std::vector<double> expected(const Data& data, bool gradient) {
  const auto x = data.x.values();
  const auto dy = data.dy.values();
  std::vector<double> out;
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

std::function<void()> prepare(const ExecutionContext& ctx, bool gradient) {
  auto data = std::make_shared<Data>();
  const std::function<void()> run = [&ctx, data, gradient] {
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
  require_within_bound("relu_quantum", data->out.values(), expected<float>(*data, gradient),
                       expected<double>(*data, gradient));
  return run;
}

const bool kRegistered =
    register_kernel({.name = "relu_quantum_forward/2048x1536/stemfabric",
                     .bytes = 2 * kBytesOfOne,
                     .prepare = [](const auto& ctx) { return prepare(ctx, false); }}) &&
    register_kernel({.name = "relu_quantum_backward/2048x1536/stemfabric",
                     .bytes = 3 * kBytesOfOne,
                     .prepare = [](const auto& ctx) { return prepare(ctx, true); }});

}  // namespace
}  // namespace stemfabric::benchmarks
