// The layer with bf16 factors against its float64 oracle.
#include <gtest/gtest.h>

#include "kernels/linear/linear.h"
#include "runtime/core/bf16.h"
#include "tests/oracles/activation_oracle.h"
#include "tests/oracles/linear_oracle.h"
#include "tests/support/bf16.h"
#include "tests/support/simd_levels.h"

namespace stemfabric::test {
namespace {

using Values = std::vector<double>;

// The layer with bf16 factors, step by step as the contract allows it: the product rounded, then
// what is added to it, then the activation.
Values naive_forward(const LinearSizes& s, const Values& x, const Values& kernel,
                     const Values& bias, const Values& row_bias, Activation activation) {
  Values out = rounded_to_bf16(widen(linear_forward_oracle<float>(s, x, kernel, {}, {}, {}).y));
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto n = static_cast<std::size_t>(s.n);
    auto v = static_cast<float>(out[i]);
    v += bias.empty() ? 0.0F : static_cast<float>(bias[i % n]);
    v += row_bias.empty() ? 0.0F : static_cast<float>(row_bias[i % row_bias.size()]);
    v = round_to_bf16(v);
    out[i] = static_cast<double>(activation_oracle(activation, {}, v));
  }
  return rounded_to_bf16(out);
}

struct LinearBf16 {
  bool positions = false;
  bool pre_activation = false;
  Activation activation = Activation::kNone;
  Layout layout;
};

void check_linear_forward(const LinearSizes& s, const LinearBf16& options) {
  const Layout& layout = options.layout;
  const auto x = random_bf16({s.m, s.k}, 1, -1, 1, layout);
  const auto kernel = random_bf16({s.k, s.n}, 2, -1, 1, layout);
  const auto bias = random_bf16({s.n}, 3);
  const auto row_bias = random_bf16({5, s.n}, 4, -1, 1, layout);
  GuardedTensor y({s.m, s.n}, DType::kBF16, layout);
  GuardedTensor pre({s.m, s.n}, DType::kBF16, layout);
  run_repeatably({&y, &pre}, [&](const ExecutionContext& ctx) {
    linear_forward(ctx, {.x = x.view(),
                         .kernel = kernel.view(),
                         .bias = bias.view(),
                         .row_bias = options.positions ? row_bias.view() : ConstTensorView(),
                         .y = y.view(),
                         .pre_activation = options.pre_activation ? pre.view() : TensorView(),
                         .activation = options.activation});
  });
  const Values rows = options.positions ? row_bias.values() : Values();
  const auto naive = [&](Activation activation) {
    return naive_forward(s, x.values(), kernel.values(), bias.values(), rows, activation);
  };
  const auto oracle = linear_forward_oracle<double>(s, x.values(), kernel.values(), bias.values(),
                                                    rows, {.activation = options.activation});
  expect_within_bound("y", y.values(), naive(options.activation), oracle.y, kBf16Floor);
  if (options.pre_activation) {
    expect_within_bound("pre_activation", pre.values(), naive(Activation::kNone),
                        oracle.pre_activation, kBf16Floor);
  }
}

// bf16 factors, a float32 result: as good as that of a float32 layer.
void check_linear_float32_result(const LinearSizes& s) {
  const auto x = random_bf16({s.m, s.k}, 1);
  const auto kernel = random_bf16({s.k, s.n}, 2);
  const auto bias = GuardedTensor::random({s.n}, 3);
  GuardedTensor y({s.m, s.n}, DType::kF32);
  run_repeatably({&y}, [&](const ExecutionContext& ctx) {
    linear_forward(ctx,
                   {.x = x.view(), .kernel = kernel.view(), .bias = bias.view(), .y = y.view()});
  });
  const auto forward = [&]<typename T>() {
    return linear_forward_oracle<T>(s, x.values(), kernel.values(), bias.values(), {}, {}).y;
  };
  expect_within_bound("y", y.values(), widen(forward.template operator()<float>()),
                      forward.template operator()<double>());
}

void check_linear_backward_input(const LinearSizes& s, Activation activation, bool accumulate,
                                 DType dtype, const Layout& layout) {
  const auto dy = random_bf16({s.m, s.n}, 1, -1, 1, layout);
  const auto kernel = random_bf16({s.k, s.n}, 2, -1, 1, layout);
  const auto saved = GuardedTensor::random({s.m, s.k}, 3, -2, 2, layout, dtype);
  GuardedTensor dx = accumulate ? GuardedTensor::random({s.m, s.k}, 4, -1, 1, layout, dtype)
                                : GuardedTensor({s.m, s.k}, dtype, layout);
  const Values before = accumulate ? dx.values() : Values();
  run_repeatably({&dx}, [&](const ExecutionContext& ctx) {
    linear_backward_input(ctx, {.dy = dy.view(),
                                .kernel = kernel.view(),
                                .dx = dx.view(),
                                .accumulate = accumulate,
                                .input_activation = activation,
                                .saved = saved.view()});
  });
  const LinearActivation derivative = {.activation = activation};
  const auto oracle = linear_backward_input_oracle<double>(s, dy.values(), kernel.values(),
                                                           saved.values(), derivative, before);
  if (dtype == DType::kF32) {
    const auto naive = linear_backward_input_oracle<float>(s, dy.values(), kernel.values(),
                                                           saved.values(), derivative, before);
    return expect_within_bound("dx", dx.values(), widen(naive), oracle);
  }
  Values naive = rounded_to_bf16(
      widen(linear_backward_input_oracle<float>(s, dy.values(), kernel.values(), {}, {}, before)));
  if (activation != Activation::kNone) {
    for (std::size_t i = 0; i < naive.size(); ++i) {
      naive[i] *= static_cast<double>(activation_derivative_oracle(
          activation, {}, static_cast<float>(saved.get(static_cast<int64_t>(i)))));
    }
    naive = rounded_to_bf16(naive);
  }
  expect_within_bound("dx", dx.values(), naive, oracle, kBf16Floor);
}

void check_linear_backward_kernel(const LinearSizes& s, const Layout& layout) {
  const auto x = random_bf16({s.m, s.k}, 1, -1, 1, layout);
  const auto dy = random_bf16({s.m, s.n}, 2, -1, 1, layout);
  GuardedTensor dkernel = GuardedTensor::random({s.k, s.n}, 3, -1, 1, layout);
  GuardedTensor dbias = GuardedTensor::random({s.n}, 4);
  const Values kernel_before = dkernel.values();
  const Values bias_before = dbias.values();
  run_repeatably({&dkernel, &dbias}, [&](const ExecutionContext& ctx) {
    linear_backward_kernel(
        ctx, {.x = x.view(), .dy = dy.view(), .dkernel = dkernel.view(), .dbias = dbias.view()});
  });
  const auto gradient = [&]<typename T>() {
    return linear_backward_kernel_oracle<T>(s, x.values(), dy.values(), kernel_before, bias_before);
  };
  const auto oracle = gradient.template operator()<double>();
  const auto naive = gradient.template operator()<float>();
  expect_within_bound("dkernel", dkernel.values(), widen(naive.dkernel), oracle.dkernel);
  expect_within_bound("dbias", dbias.values(), widen(naive.dbias), oracle.dbias);
}

// Odd and even widths, sizes of 0, and more than one block of k.
const LinearSizes kLinearSizes[] = {{1, 1, 1},    {1, 37, 50},  {29, 40, 1},  {12, 16, 16},
                                    {13, 33, 33}, {7, 257, 19}, {37, 24, 18}, {5, 9, 304},
                                    {0, 7, 5},    {5, 7, 0},    {5, 0, 7}};

TEST(Bf16Linear, Forward) {
  for_each_simd_level([] {
    for (const LinearSizes& s : kLinearSizes) {
      check_linear_forward(s, {.layout = {.row_gap = 4}});
      check_linear_forward(s, {.positions = true});
      check_linear_forward(s, {.activation = Activation::kRelu});
      check_linear_forward(s, {.pre_activation = true,
                               .activation = Activation::kReluQuantum,
                               .layout = {.row_gap = 3}});
      check_linear_float32_result(s);
    }
  });
}

TEST(Bf16Linear, Backward) {
  for_each_simd_level([] {
    for (const LinearSizes& s : kLinearSizes) {
      for (const DType dtype : {DType::kBF16, DType::kF32}) {
        check_linear_backward_input(s, Activation::kNone, false, dtype, {.row_gap = 3});
        check_linear_backward_input(s, Activation::kNone, true, dtype, {.row_gap = 4});
        check_linear_backward_input(s, Activation::kRelu, false, dtype, {.row_gap = 4});
        check_linear_backward_input(s, Activation::kReluQuantum, false, dtype, {});
      }
      check_linear_backward_kernel(s, {});
      check_linear_backward_kernel(s, {.row_gap = 4});
    }
  });
}

}  // namespace
}  // namespace stemfabric::test
