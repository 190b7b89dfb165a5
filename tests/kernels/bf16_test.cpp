// Ops with bf16 activations: each computes in float32 and rounds what it writes, once. Layers and
// norms: linear_bf16_test.cpp, residual_norm_bf16_test.cpp.
#include <gtest/gtest.h>

#include "kernels/activation/activation.h"
#include "kernels/linear/linear.h"
#include "kernels/reduction/reduction.h"
#include "kernels/residual_norm/residual_norm.h"
#include "kernels/rotary/rotary.h"
#include "kernels/standardize/standardize.h"
#include "tests/oracles/activation_oracle.h"
#include "tests/oracles/reduction_oracle.h"
#include "tests/oracles/rotary_oracle.h"
#include "tests/support/bf16.h"
#include "tests/support/simd_levels.h"

namespace stemfabric::test {
namespace {

using Values = std::vector<double>;

template <typename T>
Values activated(Activation activation, const Values& x) {
  Values y;
  for (const double v : x) {
    y.push_back(activation_oracle(activation, {}, static_cast<T>(v)));
  }
  return y;
}
template <typename T>
Values activation_slopes(Activation activation, const Values& x, const Values& dy) {
  Values dx;
  for (std::size_t i = 0; i < x.size(); ++i) {
    dx.push_back(activation_derivative_oracle(activation, {}, static_cast<T>(x[i])) *
                 static_cast<T>(dy[i]));
  }
  return dx;
}

void check_activation(Activation activation, int64_t n) {
  const auto x = random_bf16({n}, 1, -3, 3);
  const auto dy = random_bf16({n}, 2);
  GuardedTensor y({n}, DType::kBF16);
  GuardedTensor dx({n}, DType::kBF16);
  run_repeatably({&y, &dx}, [&](const ExecutionContext& ctx) {
    activation_forward(ctx, {.activation = activation, .x = x.view(), .y = y.view()});
    activation_backward(
        ctx, {.activation = activation, .x = x.view(), .dy = dy.view(), .dx = dx.view()});
  });
  expect_within_bound("y", y.values(), rounded_to_bf16(activated<float>(activation, x.values())),
                      activated<double>(activation, x.values()));
  expect_within_bound(
      "dx", dx.values(),
      rounded_to_bf16(activation_slopes<float>(activation, x.values(), dy.values())),
      activation_slopes<double>(activation, x.values(), dy.values()));
}

TEST(Bf16Ops, Activation) {
  for_each_simd_level([] {
    for (const Activation activation :
         {Activation::kNone, Activation::kRelu, Activation::kReluQuantum}) {
      for (const int64_t n : {0, 1, 7, 8, 2047, 2048, 5003}) {
        check_activation(activation, n);
      }
    }
  });
}

template <typename T>
Values standardized(const Values& x, const Values& mean, const Values& scale) {
  Values y;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t c = i % mean.size();
    y.push_back((static_cast<T>(x[i]) - static_cast<T>(mean[c])) * static_cast<T>(scale[c]));
  }
  return y;
}

TEST(Bf16Ops, Standardize) {
  for_each_simd_level([] {
    for (const Shape& shape : {Shape{1, 1}, Shape{3, 7}, Shape{64, 16}, Shape{131, 33}}) {
      const auto x = GuardedTensor::random(shape, 1, 999, 1001);
      const auto mean = GuardedTensor::random({shape[1]}, 2, 999.5, 1000.5);
      const auto scale = GuardedTensor::random({shape[1]}, 3, 0.5, 2);
      GuardedTensor y(shape, DType::kBF16);
      run_repeatably({&y}, [&](const ExecutionContext& ctx) {
        standardize(ctx,
                    {.x = x.view(), .mean = mean.view(), .scale = scale.view(), .y = y.view()});
      });
      expect_within_bound(
          "y", y.values(),
          rounded_to_bf16(standardized<float>(x.values(), mean.values(), scale.values())),
          standardized<double>(x.values(), mean.values(), scale.values()));
    }
  });
}

struct RotarySizes {
  int64_t batch, tokens, heads, dim;
  Layout layout;
};

TEST(Bf16Ops, Rotary) {
  for_each_simd_level([] {
    for (const RotarySizes& c : {RotarySizes{1, 1, 1, 2, {}},
                                 {2, 9, 3, 14, {}},
                                 {3, 25, 4, 32, {}},
                                 {2, 9, 5, 16, {{1, 2, 0, 3}, 8}},
                                 {2, 33, 2, 8, {{1, 2, 0, 3}, 5}}}) {
      auto x = random_bf16({c.batch, c.tokens, c.heads, c.dim}, 1, -1, 1, c.layout);
      const Values before = x.values();
      for (const bool inverse : {false, true}) {
        x.assign(before);
        run_repeatably({&x}, [&](const ExecutionContext& ctx) {
          rotary(ctx, {.x = x.view(), .inverse = inverse});
        });
        const Values oracle =
            rotary_oracle(before, c.batch, c.tokens, c.heads, c.dim, 10000, inverse);
        expect_within_bound("x", x.values(), rounded_to_bf16(oracle), oracle, {.ulps = 4});
      }
    }
  });
}

struct ColumnSumCase {
  int64_t m, n, period, gap;
};

TEST(Bf16Ops, ColumnSum) {
  for_each_simd_level([] {
    for (const ColumnSumCase& c : {ColumnSumCase{1, 1, 1, 0},
                                   {7, 3, 1, 2},
                                   {1024, 256, 1, 0},
                                   {300, 255, 1, 9},
                                   {100, 16, 32, 8},
                                   {0, 5, 2, 0},
                                   {513, 304, 2, 4}}) {
      const auto x = random_bf16({c.m, c.n}, 1, -1, 2, {.row_gap = c.gap});
      GuardedTensor out = GuardedTensor::random({c.period, c.n}, 2);
      const Values start = out.values();
      run_repeatably({&out}, [&](const ExecutionContext& ctx) {
        column_sum(ctx, {.x = x.view(), .out = out.view()});
      });
      // Nothing of bf16 is left in a sum of float64.
      expect_within_bound("out", out.values(), widen(column_sum_oracle<float>(x.values(), start)),
                          column_sum_oracle<double>(x.values(), start));
    }
  });
}

// Element types do not mix, but for float32 results of bf16 factors.
TEST(Bf16Contract, NamesTheTensorAtFault) {
  const auto& ctx = test_context();
  auto narrow = random_bf16({4, 4}, 1);
  auto wide = GuardedTensor::random({4, 4}, 1);
  const auto vector = GuardedTensor::random({4}, 1);
  expect_contract_error({"linear_forward", "kernel", "f32", "bf16"}, [&] {
    linear_forward(ctx, {.x = narrow.view(), .kernel = wide.view(), .y = narrow.view()});
  });
  expect_contract_error({"linear_forward", "y", "bf16", "f32"}, [&] {
    linear_forward(ctx, {.x = wide.view(), .kernel = wide.view(), .y = narrow.view()});
  });
  expect_contract_error({"linear_forward", "bias", "f32", "bf16"}, [&] {
    linear_forward(
        ctx,
        {.x = narrow.view(), .kernel = narrow.view(), .bias = vector.view(), .y = narrow.view()});
  });
  expect_contract_error({"linear_backward_kernel", "dkernel", "bf16", "f32"}, [&] {
    linear_backward_kernel(ctx,
                           {.x = narrow.view(), .dy = narrow.view(), .dkernel = narrow.view()});
  });
  expect_contract_error({"linear_backward_input", "saved", "f32", "bf16"}, [&] {
    linear_backward_input(ctx, {.dy = narrow.view(),
                                .kernel = narrow.view(),
                                .dx = narrow.view(),
                                .input_activation = Activation::kRelu,
                                .saved = wide.view()});
  });
  expect_contract_error({"residual_norm_forward", "sum", "f32", "bf16"}, [&] {
    residual_norm_forward(ctx, {.residual = narrow.view(), .sum = wide.view()});
  });
  expect_contract_error({"activation_forward", "y", "f32", "bf16"},
                        [&] { activation_forward(ctx, {.x = narrow.view(), .y = wide.view()}); });
}

}  // namespace
}  // namespace stemfabric::test
