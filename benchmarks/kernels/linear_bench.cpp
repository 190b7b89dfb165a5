// The linear layer of the default model against OpenBLAS's matrix product. OpenBLAS does the
// product alone; ours includes bias, activation and bias gradient. bf16: factors and results, but
// for the parameters' gradients.
#include "kernels/linear/linear.h"

#include <fmt/core.h>

#include <algorithm>
#include <memory>

#include "benchmarks/support/kernel_benchmark.h"
#include "benchmarks/support/peer_openblas.h"
#include "benchmarks/support/random_tensor.h"
#include "tests/oracles/linear_cases.h"
#include "tests/oracles/linear_oracle.h"
#include "tests/support/bf16.h"

namespace stemfabric::benchmarks {
namespace {

using test::LinearCase;
using test::LinearSizes;
using Values = std::vector<double>;

struct Layer {
  Layer(const ExecutionContext& ctx, const LinearCase& c, DType dtype)
      : x(random_tensor(ctx, {c.m, c.k}, 1, -1, 1, dtype)),
        kernel(random_tensor(ctx, {c.k, c.n}, 2, -1, 1, dtype)),
        bias(random_tensor(ctx, {1, c.n}, 3, -1, 1, dtype)),
        dy(random_tensor(ctx, {c.m, c.n}, 4, -1, 1, dtype)),
        y(output_tensor(ctx, {c.m, c.n}, dtype)),
        dx(output_tensor(ctx, {c.m, c.k}, dtype)),
        dkernel(zero_tensor(ctx, {c.k, c.n})),
        dbias(zero_tensor(ctx, {1, c.n})) {}
  Tensor x, kernel, bias, dy, y, dx, dkernel, dbias;
};

constexpr int64_t kStep = 97;  // rows or columns between two that are verified
int64_t taken(int64_t n) { return (n + kStep - 1) / kStep; }

using Run = std::function<void()>;
constexpr test::LinearActivation kRelu{Activation::kRelu, {}};

test::Floor floor_of(DType dtype) {
  return dtype == DType::kBF16 ? test::kBf16Floor : test::Floor{};
}

// The naive computations in bf16 round as linear.h allows it: the product, and what comes of it.
Values naive_forward(const LinearSizes& some, const Values& x, const Values& kernel,
                     const Values& bias, DType dtype) {
  const auto layer = [&](const Values& with_bias, const test::LinearActivation& activation) {
    return test::widen(
        test::linear_forward_oracle<float>(some, x, kernel, with_bias, {}, activation).y);
  };
  if (dtype == DType::kF32) {
    return layer(bias, kRelu);
  }
  Values y = test::rounded_to_bf16(layer({}, {}));
  for (std::size_t i = 0; i < y.size(); ++i) {
    y[i] = std::max(0.0, y[i] + bias[i % bias.size()]);
  }
  return test::rounded_to_bf16(y);
}

Values naive_backward_input(const LinearSizes& some, const Values& dy, const Values& kernel,
                            const Values& saved, DType dtype) {
  const bool bf16 = dtype == DType::kBF16;
  Values dx = test::widen(test::linear_backward_input_oracle<float>(
      some, dy, kernel, bf16 ? Values() : saved, bf16 ? test::LinearActivation() : kRelu, {}));
  if (bf16) {
    for (std::size_t i = 0; i < dx.size(); ++i) {
      dx[i] = saved[i] > 0 ? dx[i] : 0.0;
    }
    dx = test::rounded_to_bf16(dx);
  }
  return dx;
}

Run prepare_forward(const LinearCase& c, const ExecutionContext& ctx, DType dtype) {
  auto layer = std::make_shared<Layer>(ctx, c, dtype);
  Run run = [&ctx, layer, n = c.n] {
    linear_forward(ctx, {.x = layer->x.view(),
                         .kernel = layer->kernel.view(),
                         .bias = layer->bias.view().reshape({n}),
                         .y = layer->y.view(),
                         .activation = Activation::kRelu});
  };
  run();
  const LinearSizes some{taken(c.m), c.k, c.n};
  const Values x = some_rows(ctx, layer->x, kStep);
  const Values kernel = values_of(ctx, layer->kernel);
  const Values bias = values_of(ctx, layer->bias);
  require_within_bound(
      c.name, some_rows(ctx, layer->y, kStep), naive_forward(some, x, kernel, bias, dtype),
      test::linear_forward_oracle<double>(some, x, kernel, bias, {}, kRelu).y, floor_of(dtype));
  return run;
}

Run prepare_backward_input(const LinearCase& c, const ExecutionContext& ctx, DType dtype) {
  auto layer = std::make_shared<Layer>(ctx, c, dtype);
  Run run = [&ctx, layer] {
    linear_backward_input(ctx, {.dy = layer->dy.view(),
                                .kernel = layer->kernel.view(),
                                .dx = layer->dx.view(),
                                .input_activation = Activation::kRelu,
                                .saved = layer->x.view()});
  };
  run();
  const LinearSizes some{taken(c.m), c.k, c.n};
  const Values dy = some_rows(ctx, layer->dy, kStep);
  const Values saved = some_rows(ctx, layer->x, kStep);
  const Values kernel = values_of(ctx, layer->kernel);
  require_within_bound(
      c.name, some_rows(ctx, layer->dx, kStep),
      naive_backward_input(some, dy, kernel, saved, dtype),
      test::linear_backward_input_oracle<double>(some, dy, kernel, saved, kRelu, {}),
      floor_of(dtype));
  return run;
}

Run prepare_backward_kernel(const LinearCase& c, const ExecutionContext& ctx, DType dtype) {
  auto layer = std::make_shared<Layer>(ctx, c, dtype);
  Run run = [&ctx, layer, n = c.n] {
    linear_backward_kernel(ctx, {.x = layer->x.view(),
                                 .dy = layer->dy.view(),
                                 .dkernel = layer->dkernel.view(),
                                 .dbias = layer->dbias.view().reshape({n})});
  };
  run();
  const LinearSizes some{c.m, taken(c.k), c.n};
  const Values x = some_columns(ctx, layer->x, kStep);
  const Values zero_kernel(static_cast<std::size_t>(some.k * c.n), 0.0);
  const Values zero_bias(static_cast<std::size_t>(c.n), 0.0);
  const auto naive = test::linear_backward_kernel_oracle<float>(some, x, values_of(ctx, layer->dy),
                                                                zero_kernel, zero_bias);
  const auto oracle = test::linear_backward_kernel_oracle<double>(
      some, x, values_of(ctx, layer->dy), zero_kernel, zero_bias);
  require_within_bound(c.name, some_rows(ctx, layer->dkernel, kStep), test::widen(naive.dkernel),
                       oracle.dkernel);
  require_within_bound(c.name, values_of(ctx, layer->dbias), test::widen(naive.dbias),
                       oracle.dbias);
  return run;
}

// The same product by OpenBLAS.
enum class Product { kForward, kBackwardInput, kBackwardKernel };
Run prepare_openblas(const LinearCase& c, const ExecutionContext& ctx, Product product) {
  auto layer = std::make_shared<Layer>(ctx, c, DType::kF32);
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

// Bytes read and written at least: operands, result, bias or its gradient, the saved activation.
double bytes_of(const LinearCase& c, Product product, DType dtype) {
  const int64_t x = c.m * c.k, kernel = c.k * c.n, y = c.m * c.n;
  const auto element = static_cast<int64_t>(dtype_size(dtype));
  switch (product) {
    case Product::kForward:
      return static_cast<double>(element * (x + kernel + c.n + y));
    case Product::kBackwardInput:
      return static_cast<double>(element * (y + kernel + 2 * x));
    case Product::kBackwardKernel:
      return static_cast<double>(element * (x + y) + 4 * (2 * kernel + 2 * c.n));
  }
  return 0;
}

struct Op {
  const char* name;
  Product product;
  Run (*prepare)(const LinearCase&, const ExecutionContext&, DType);
};
constexpr Op kOps[] = {
    {"linear_forward", Product::kForward, prepare_forward},
    {"linear_backward_input", Product::kBackwardInput, prepare_backward_input},
    {"linear_backward_kernel", Product::kBackwardKernel, prepare_backward_kernel},
};

void register_cases(const Op& op, const std::vector<LinearCase>& cases, RunsOn on,
                    DType dtype = DType::kF32) {
  for (const LinearCase& c : cases) {
    const auto name = fmt::format("{}/{}/{}x{}x{}", op.name, c.name, c.m, c.k, c.n);
    register_kernel(
        {.name = name + implementation_name(dtype),
         .on = on,
         .flops = c.flops(),
         .factors = dtype,
         .bytes = bytes_of(c, op.product, dtype),
         .prepare = [=](const ExecutionContext& ctx) { return op.prepare(c, ctx, dtype); }});
    if (on == RunsOn::kAny && have_openblas()) {
      register_kernel({.name = name + "/openblas",
                       .on = RunsOn::kCpu,
                       .flops = c.flops(),
                       .prepare = [op, c](const ExecutionContext& ctx) {
                         return prepare_openblas(c, ctx, op.product);
                       }});
    }
  }
}

bool register_all() {
  for (const Op& op : kOps) {
    register_cases(op, test::default_model_linear_cases(), RunsOn::kAny);
    register_cases(op, test::gpu_linear_cases(), RunsOn::kGpu);
    register_cases(op, test::default_model_linear_cases(), RunsOn::kCpu, DType::kBF16);
    register_cases(op, test::gpu_linear_cases(), RunsOn::kGpu, DType::kBF16);
  }
  return true;
}

const bool kRegistered = register_all();

}  // namespace
}  // namespace stemfabric::benchmarks
