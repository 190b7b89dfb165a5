// The linear layer against its float64 oracle, on every SIMD level.
#include "kernels/linear/linear.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/oracles/linear_cases.h"
#include "tests/oracles/linear_oracle.h"
#include "tests/support/op_harness.h"
#include "tests/support/simd_levels.h"

namespace stemfabric::test {
namespace {

using Values = std::vector<double>;

// Sizes of the edge cases and one layer of the default model, fewer of its rows.
std::vector<LinearCase> test_cases() {
  auto cases = edge_linear_cases();
  cases.push_back({"feed_forward_2", 75, 1024, 256});
  return cases;
}

class Linear : public testing::TestWithParam<LinearCase> {
 protected:
  LinearSizes size() const { return {GetParam().m, GetParam().k, GetParam().n}; }
};
INSTANTIATE_TEST_SUITE_P(Cases, Linear, testing::ValuesIn(test_cases()),
                         [](const auto& test) { return std::string(test.param.name); });

struct Forward {
  bool bias, row_bias, pre_activation;
  LinearActivation activation;
  Layout layout;
};

void check_forward(const LinearSizes& s, const Forward& options) {
  const int64_t period = 5;
  const auto& layout = options.layout;
  const auto x = GuardedTensor::random({s.m, s.k}, 1, -1, 1, layout);
  const auto kernel = GuardedTensor::random({s.k, s.n}, 2, -1, 1, layout);
  const auto bias = GuardedTensor::random({s.n}, 3);
  const auto row_bias = GuardedTensor::random({period, s.n}, 4, -1, 1, layout);
  GuardedTensor y({s.m, s.n}, DType::kF32, layout);
  GuardedTensor pre({s.m, s.n}, DType::kF32, layout);
  run_repeatably({&y, &pre}, [&](const ExecutionContext& ctx) {
    linear_forward(ctx, {.x = x.view(),
                         .kernel = kernel.view(),
                         .bias = options.bias ? bias.view() : ConstTensorView(),
                         .row_bias = options.row_bias ? row_bias.view() : ConstTensorView(),
                         .y = y.view(),
                         .pre_activation = options.pre_activation ? pre.view() : TensorView(),
                         .activation = options.activation.activation,
                         .quantum = options.activation.quantum});
  });
  const Values bias_values = options.bias ? bias.values() : Values();
  const Values row_bias_values = options.row_bias ? row_bias.values() : Values();
  const auto oracle = linear_forward_oracle<double>(s, x.values(), kernel.values(), bias_values,
                                                    row_bias_values, options.activation);
  const auto naive = linear_forward_oracle<float>(s, x.values(), kernel.values(), bias_values,
                                                  row_bias_values, options.activation);
  expect_within_bound("y", y.values(), widen(naive.y), oracle.y);
  if (options.pre_activation) {
    expect_within_bound("pre_activation", pre.values(), widen(naive.pre_activation),
                        oracle.pre_activation);
  }
}

TEST_P(Linear, Forward) {
  for_each_simd_level([&] {
    check_forward(size(), {});
    check_forward(size(), {.bias = true, .layout = {.row_gap = 3}});
    check_forward(size(), {.bias = true, .row_bias = true});
    check_forward(size(), {.bias = true, .activation = {Activation::kRelu, {}}});
    check_forward(size(), {.bias = true,
                           .row_bias = true,
                           .pre_activation = true,
                           .activation = {Activation::kReluQuantum, {0.3f, 0.5f, 0.1f}},
                           .layout = {.row_gap = 5}});
  });
}

void check_backward_input(const LinearSizes& s, const LinearActivation& activation, bool accumulate,
                          const Layout& layout) {
  const auto dy = GuardedTensor::random({s.m, s.n}, 1, -1, 1, layout);
  const auto kernel = GuardedTensor::random({s.k, s.n}, 2, -1, 1, layout);
  const auto saved = GuardedTensor::random({s.m, s.k}, 3, -2, 2, {.row_gap = layout.row_gap + 4});
  GuardedTensor dx = accumulate ? GuardedTensor::random({s.m, s.k}, 4, -1, 1, layout)
                                : GuardedTensor({s.m, s.k}, DType::kF32, layout);
  const Values before = accumulate ? dx.values() : Values();
  run_repeatably({&dx}, [&](const ExecutionContext& ctx) {
    linear_backward_input(ctx, {.dy = dy.view(),
                                .kernel = kernel.view(),
                                .dx = dx.view(),
                                .accumulate = accumulate,
                                .input_activation = activation.activation,
                                .quantum = activation.quantum,
                                .saved = saved.view()});
  });
  const auto oracle = linear_backward_input_oracle<double>(s, dy.values(), kernel.values(),
                                                           saved.values(), activation, before);
  const auto naive = linear_backward_input_oracle<float>(s, dy.values(), kernel.values(),
                                                         saved.values(), activation, before);
  expect_within_bound("dx", dx.values(), widen(naive), oracle);
}

TEST_P(Linear, BackwardInput) {
  for_each_simd_level([&] {
    check_backward_input(size(), {}, false, {});
    check_backward_input(size(), {}, true, {.row_gap = 3});
    check_backward_input(size(), {Activation::kRelu, {}}, false, {.row_gap = 1});
    check_backward_input(size(), {Activation::kReluQuantum, {0.4f, 0.4f, 0.2f}}, false, {});
  });
}

void check_backward_kernel(const LinearSizes& s, bool with_bias, const Layout& layout) {
  const auto x = GuardedTensor::random({s.m, s.k}, 1, -1, 1, layout);
  const auto dy = GuardedTensor::random({s.m, s.n}, 2, -1, 1, layout);
  GuardedTensor dkernel = GuardedTensor::random({s.k, s.n}, 3, -1, 1, layout);
  GuardedTensor dbias = GuardedTensor::random({s.n}, 4);
  const Values dkernel_before = dkernel.values();
  const Values dbias_before = dbias.values();
  run_repeatably({&dkernel, &dbias}, [&](const ExecutionContext& ctx) {
    linear_backward_kernel(ctx, {.x = x.view(),
                                 .dy = dy.view(),
                                 .dkernel = dkernel.view(),
                                 .dbias = with_bias ? dbias.view() : TensorView()});
  });
  const auto oracle = linear_backward_kernel_oracle<double>(s, x.values(), dy.values(),
                                                            dkernel_before, dbias_before);
  const auto naive = linear_backward_kernel_oracle<float>(s, x.values(), dy.values(),
                                                          dkernel_before, dbias_before);
  expect_within_bound("dkernel", dkernel.values(), widen(naive.dkernel), oracle.dkernel);
  if (with_bias) {
    expect_within_bound("dbias", dbias.values(), widen(naive.dbias), oracle.dbias);
  } else {
    EXPECT_EQ(dbias.values(), dbias_before);
  }
}

TEST_P(Linear, BackwardKernel) {
  for_each_simd_level([&] {
    check_backward_kernel(size(), true, {});
    check_backward_kernel(size(), false, {.row_gap = 3});
  });
}

// More tokens and columns than one round of packed B holds: k advances in several rounds.
TEST(LinearSizesBeyondScratch, BackwardKernel) {
  check_backward_kernel({.m = 1100, .k = 3, .n = 2100}, true, {});
}

// More rows than the grid of a GPU's epilogue has threads for: it walks on.
TEST(LinearManyRows, AllGetTheirActivation) {
  constexpr int64_t kRows = 8 * 4096 + 5;
  const auto x = GuardedTensor::random({kRows, 1}, 1);
  const auto kernel = GuardedTensor::filled({1, 1}, DType::kF32, 1);
  const auto dy = GuardedTensor::filled({kRows, 1}, DType::kF32, 1);
  GuardedTensor y({kRows, 1}, DType::kF32);
  GuardedTensor dx({kRows, 1}, DType::kF32);
  linear_forward(
      test_context(),
      {.x = x.view(), .kernel = kernel.view(), .y = y.view(), .activation = Activation::kRelu});
  linear_backward_input(test_context(), {.dy = dy.view(),
                                         .kernel = kernel.view(),
                                         .dx = dx.view(),
                                         .input_activation = Activation::kRelu,
                                         .saved = y.view()});
  for (int64_t i = 0; i < kRows; ++i) {
    ASSERT_EQ(y.get(i), std::max(x.get(i), 0.0)) << i;
    ASSERT_EQ(dx.get(i), x.get(i) > 0 ? 1.0 : 0.0) << i;
  }
}

TEST(LinearOracle, GradientsAgreeWithDifferences) {
  const LinearSizes s{4, 5, 3};
  const LinearActivation activation{Activation::kReluQuantum, {0.4f, 0.4f, 0.2f}};
  Values x = GuardedTensor::random({4, 5}, 1).values();
  Values kernel = GuardedTensor::random({5, 3}, 2).values();
  Values bias = GuardedTensor::random({3}, 3).values();
  const Values weight = GuardedTensor::random({4, 3}, 4).values();
  const auto loss = [&] {
    const auto out = linear_forward_oracle<double>(s, x, kernel, bias, {}, activation);
    double sum = 0;
    for (std::size_t i = 0; i < weight.size(); ++i) {
      sum += weight[i] * out.y[i];
    }
    return sum;
  };
  // d loss / d pre-activation, then the two gradients of the layer.
  const auto out = linear_forward_oracle<double>(s, x, kernel, bias, {}, activation);
  const LinearSizes identity{4, 3, 3};
  const Values unit = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  const Values dy = linear_backward_input_oracle<double>(identity, weight, unit, out.pre_activation,
                                                         activation, {});
  const auto gradient =
      linear_backward_kernel_oracle<double>(s, x, dy, Values(15, 0.0), Values(3, 0.0));
  expect_gradient("dkernel", kernel, loss, gradient.dkernel);
  expect_gradient("dbias", bias, loss, gradient.dbias);
  expect_gradient("dx", x, loss,
                  linear_backward_input_oracle<double>(s, dy, kernel, {}, activation, {}));
}

// A NaN or infinity in one row of x spoils that row of y and nothing else, however the tile is cut.
TEST(LinearNonFinite, StaysInItsRow) {
  for_each_simd_level([] {
    auto x = GuardedTensor::random({14, 20}, 1);
    const auto kernel = GuardedTensor::random({20, 35}, 2, 0.5, 1.0);
    GuardedTensor y({14, 35}, DType::kF32);
    x.set(3 * 20 + 7, kNaN);
    x.set(12 * 20, kInf);
    linear_forward(test_context(), {.x = x.view(), .kernel = kernel.view(), .y = y.view()});
    expect_non_finite_exactly("y", y.values(),
                              [](int64_t i) { return i / 35 == 3 || i / 35 == 12; });
    linear_forward(test_context(), {.x = x.view(),
                                    .kernel = kernel.view(),
                                    .y = y.view(),
                                    .activation = Activation::kReluQuantum});
    expect_non_finite_exactly("y", y.values(),
                              [](int64_t i) { return i / 35 == 3 || i / 35 == 12; });
  });
}

// A column slice of a wider kernel, as fused query/key/value and stem heads use it.
TEST(LinearViews, ColumnSliceOfAWiderKernel) {
  const auto x = GuardedTensor::random({9, 8}, 1);
  auto wide = GuardedTensor::random({8, 30}, 2);
  GuardedTensor whole({9, 30}, DType::kF32);
  GuardedTensor part({9, 7}, DType::kF32);
  const auto& ctx = test_context();
  linear_forward(ctx, {.x = x.view(), .kernel = wide.view(), .y = whole.view()});
  linear_forward(ctx, {.x = x.view(), .kernel = wide.view().slice(1, 11, 7), .y = part.view()});
  for (int64_t i = 0; i < part.elements(); ++i) {
    EXPECT_EQ(part.get(i), whole.get(i / 7 * 30 + 11 + i % 7));
  }
}

TEST(LinearContract, NamesTheTensorAtFault) {
  const auto x = GuardedTensor::random({4, 5}, 1);
  const auto kernel = GuardedTensor::random({5, 3}, 2);
  GuardedTensor y({4, 3}, DType::kF32);
  GuardedTensor small({4, 2}, DType::kF32);
  const auto& ctx = test_context();
  expect_contract_error({"linear_forward", "kernel", "[4, 5]"}, [&] {
    linear_forward(ctx, {.x = x.view(), .kernel = x.view(), .y = y.view()});
  });
  expect_contract_error({"linear_forward", "y", "[4, 2]"}, [&] {
    linear_forward(ctx, {.x = x.view(), .kernel = kernel.view(), .y = small.view()});
  });
  expect_contract_error({"linear_forward", "bias", "[4, 3]"}, [&] {
    linear_forward(ctx, {.x = x.view(), .kernel = kernel.view(), .bias = y.view(), .y = y.view()});
  });
  expect_contract_error({"linear_backward_input", "saved", "missing"}, [&] {
    GuardedTensor dx({4, 5}, DType::kF32);
    linear_backward_input(ctx, {.dy = y.view(),
                                .kernel = kernel.view(),
                                .dx = dx.view(),
                                .input_activation = Activation::kRelu});
  });
  expect_contract_error({"linear_backward_kernel", "dy", "[2, 3]"}, [&] {
    GuardedTensor dy({2, 3}, DType::kF32);
    GuardedTensor dkernel({5, 3}, DType::kF32);
    linear_backward_kernel(ctx, {.x = x.view(), .dy = dy.view(), .dkernel = dkernel.view()});
  });
  expect_contract_error({"linear_forward", "x", "strides (1, 4)"}, [&] {
    GuardedTensor columns({4, 5}, DType::kF32, {.order = {1, 0}});
    linear_forward(ctx, {.x = columns.view(), .kernel = kernel.view(), .y = y.view()});
  });
}

}  // namespace
}  // namespace stemfabric::test
