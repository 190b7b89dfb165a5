// The linear layer of the default model against OpenBLAS's matrix product. OpenBLAS does the
// product alone; ours includes bias, activation and bias gradient.
#include "kernels/linear/linear.h"

#include <fmt/core.h>

#include <memory>

#include "benchmarks/support/kernel_benchmark.h"
#include "benchmarks/support/peer_openblas.h"
#include "tests/oracles/linear_cases.h"
#include "tests/oracles/linear_oracle.h"
#include "tests/support/op_harness.h"

namespace stemfabric::benchmarks {
namespace {

using test::LinearCase;
using test::LinearSizes;
using Values = std::vector<double>;

Tensor random_tensor(const Shape& shape, uint64_t seed) {
  Tensor tensor(shape, DType::kF32);
  const auto values = test::GuardedTensor::random(shape, seed).values();
  std::copy(values.begin(), values.end(), tensor.as<float>());
  return tensor;
}

// Every step-th row (or column) of a matrix: enough to verify a result.
Values some_rows(const Tensor& tensor, int64_t step) {
  Values out;
  for (int64_t r = 0; r < tensor.shape()[0]; r += step) {
    const float* row = tensor.as<float>() + r * tensor.shape()[1];
    out.insert(out.end(), row, row + tensor.shape()[1]);
  }
  return out;
}
Values some_columns(const Tensor& tensor, int64_t step) {
  Values out;
  for (int64_t i = 0; i < tensor.elements(); ++i) {
    if (i % tensor.shape()[1] % step == 0) {
      out.push_back(static_cast<double>(tensor.as<float>()[i]));
    }
  }
  return out;
}
Values all(const Tensor& tensor) { return some_rows(tensor, 1); }

struct Layer {
  explicit Layer(const LinearCase& c)
      : x(random_tensor({c.m, c.k}, 1)),
        kernel(random_tensor({c.k, c.n}, 2)),
        bias(random_tensor({1, c.n}, 3)),
        dy(random_tensor({c.m, c.n}, 4)),
        y(random_tensor({c.m, c.n}, 5)),
        dx(random_tensor({c.m, c.k}, 6)),
        dkernel(Tensor::zeros({c.k, c.n}, DType::kF32)),
        dbias(Tensor::zeros({1, c.n}, DType::kF32)) {}
  Tensor x, kernel, bias, dy, y, dx, dkernel, dbias;
};

constexpr int64_t kStep = 97;  // rows or columns between two that are verified
int64_t taken(int64_t n) { return (n + kStep - 1) / kStep; }

using Run = std::function<void()>;

Run prepare_forward(const LinearCase& c, const ExecutionContext& ctx) {
  auto layer = std::make_shared<Layer>(c);
  const Run run = [&ctx, layer, n = c.n] {
    linear_forward(ctx, {.x = layer->x.view(),
                         .kernel = layer->kernel.view(),
                         .bias = layer->bias.view().reshape({n}),
                         .y = layer->y.view(),
                         .activation = Activation::kRelu});
  };
  run();
  const LinearSizes some{taken(c.m), c.k, c.n};
  const Values x = some_rows(layer->x, kStep);
  const test::LinearActivation relu{Activation::kRelu, {}};
  const auto naive =
      test::linear_forward_oracle<float>(some, x, all(layer->kernel), all(layer->bias), {}, relu);
  const auto oracle =
      test::linear_forward_oracle<double>(some, x, all(layer->kernel), all(layer->bias), {}, relu);
  require_within_bound(c.name, some_rows(layer->y, kStep), test::widen(naive.y), oracle.y);
  return run;
}

Run prepare_backward_input(const LinearCase& c, const ExecutionContext& ctx) {
  auto layer = std::make_shared<Layer>(c);
  const Run run = [&ctx, layer] {
    linear_backward_input(ctx, {.dy = layer->dy.view(),
                                .kernel = layer->kernel.view(),
                                .dx = layer->dx.view(),
                                .input_activation = Activation::kRelu,
                                .saved = layer->x.view()});
  };
  run();
  const LinearSizes some{taken(c.m), c.k, c.n};
  const Values dy = some_rows(layer->dy, kStep);
  const Values saved = some_rows(layer->x, kStep);
  const test::LinearActivation relu{Activation::kRelu, {}};
  const auto naive =
      test::linear_backward_input_oracle<float>(some, dy, all(layer->kernel), saved, relu, {});
  const auto oracle =
      test::linear_backward_input_oracle<double>(some, dy, all(layer->kernel), saved, relu, {});
  require_within_bound(c.name, some_rows(layer->dx, kStep), test::widen(naive), oracle);
  return run;
}

Run prepare_backward_kernel(const LinearCase& c, const ExecutionContext& ctx) {
  auto layer = std::make_shared<Layer>(c);
  const Run run = [&ctx, layer, n = c.n] {
    linear_backward_kernel(ctx, {.x = layer->x.view(),
                                 .dy = layer->dy.view(),
                                 .dkernel = layer->dkernel.view(),
                                 .dbias = layer->dbias.view().reshape({n})});
  };
  run();
  const LinearSizes some{c.m, taken(c.k), c.n};
  const Values x = some_columns(layer->x, kStep);
  const Values zero_kernel(static_cast<std::size_t>(some.k * c.n), 0.0);
  const Values zero_bias(static_cast<std::size_t>(c.n), 0.0);
  const auto naive =
      test::linear_backward_kernel_oracle<float>(some, x, all(layer->dy), zero_kernel, zero_bias);
  const auto oracle =
      test::linear_backward_kernel_oracle<double>(some, x, all(layer->dy), zero_kernel, zero_bias);
  require_within_bound(c.name, some_rows(layer->dkernel, kStep), test::widen(naive.dkernel),
                       oracle.dkernel);
  require_within_bound(c.name, all(layer->dbias), test::widen(naive.dbias), oracle.dbias);
  return run;
}

// The same product by OpenBLAS.
enum class Product { kForward, kBackwardInput, kBackwardKernel };
Run prepare_openblas(const LinearCase& c, Product product) {
  auto layer = std::make_shared<Layer>(c);
  Layer& l = *layer;
  SgemmArgs args{};
  switch (product) {
    case Product::kForward:
      args = {
          c.m, c.n, c.k, l.x.as<float>(), false, l.kernel.as<float>(), false, 0, l.y.as<float>()};
      break;
    case Product::kBackwardInput:
      args = {
          c.m, c.k, c.n, l.dy.as<float>(), false, l.kernel.as<float>(), true, 0, l.dx.as<float>()};
      break;
    case Product::kBackwardKernel:
      args = {
          c.k, c.n, c.m, l.x.as<float>(), true, l.dy.as<float>(), false, 1, l.dkernel.as<float>()};
      break;
  }
  return [layer, args] { openblas_sgemm(args); };
}

bool register_all() {
  struct Op {
    const char* name;
    Product product;
    Run (*prepare)(const LinearCase&, const ExecutionContext&);
  };
  const Op ops[] = {
      {"linear_forward", Product::kForward, prepare_forward},
      {"linear_backward_input", Product::kBackwardInput, prepare_backward_input},
      {"linear_backward_kernel", Product::kBackwardKernel, prepare_backward_kernel},
  };
  for (const Op& op : ops) {
    for (const LinearCase& c : test::default_model_linear_cases()) {
      const auto name = fmt::format("{}/{}/{}x{}x{}", op.name, c.name, c.m, c.k, c.n);
      register_kernel(
          {.name = name + "/stemfabric",
           .flops = c.flops(),
           .prepare = [op, c](const ExecutionContext& ctx) { return op.prepare(c, ctx); }});
      if (have_openblas()) {
        register_kernel({.name = name + "/openblas",
                         .flops = c.flops(),
                         .prepare = [op, c](const ExecutionContext&) {
                           return prepare_openblas(c, op.product);
                         }});
      }
    }
  }
  return true;
}

const bool kRegistered = register_all();

}  // namespace
}  // namespace stemfabric::benchmarks
