#include "trainer/optim/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/reduction/reduction.h"
#include "trainer/optim/ema.h"

namespace stemfabric {
namespace {

// The formulas of kernels/adam/adam.h in float64, one element at a time.
struct ScalarAdam {
  double w, m = 0, v = 0;
  void step(double g, int t, double lr, double decay, bool decoupled) {
    if (decoupled) {
      w -= lr * decay * w;
    } else {
      g += decay * w;
    }
    m = 0.9 * m + 0.1 * g;
    v = 0.999 * v + 0.001 * g * g;
    w -= lr * (m / (1 - std::pow(0.9, t))) / (std::sqrt(v / (1 - std::pow(0.999, t))) + 1e-7);
  }
};

class OptimizerDecay : public testing::TestWithParam<bool> {};

TEST_P(OptimizerDecay, DecaysOnlyTheFirstElements) {
  const bool decoupled = GetParam();
  const ExecutionContext ctx;
  constexpr int64_t kElements = 37;
  constexpr int64_t kDecayed = 20;
  Optimizer optimizer(ctx, {.decoupled = decoupled, .weight_decay = 0.3}, kElements, kDecayed);
  Tensor weights = Tensor::zeros({kElements}, DType::kF32);
  Tensor gradients = Tensor::zeros({kElements}, DType::kF32);
  std::vector<ScalarAdam> expected;
  Tensor squares = Tensor::zeros({3}, DType::kF64);
  const double lr = 0.01;
  optimizer.set_lr(ctx, &lr);
  for (int64_t i = 0; i < kElements; ++i) {
    weights.as<float>()[i] = 0.25F + 0.125F * static_cast<float>(i % 7);
    expected.push_back({.w = weights.as<float>()[i]});
  }
  for (int t = 1; t <= 4; ++t) {
    for (int64_t i = 0; i < kElements; ++i) {
      gradients.as<float>()[i] = std::sin(static_cast<float>(i + 3 * t));
      expected[static_cast<std::size_t>(i)].step(0.5 * gradients.as<float>()[i], t, 0.01,
                                                 i < kDecayed ? 0.3 : 0.0, decoupled);
    }
    const auto step = [&] {
      sum_squares_into(ctx, {.x = gradients.view(), .result = squares.view()});
      // Clipped to half.
      const double clip = 0.5 * std::sqrt(squares.as<double>()[0]);
      optimizer.step(ctx, weights.view(), gradients.view(),
                     {.squares = squares.view(), .clip = clip});
    };
    step();
    EXPECT_EQ(optimizer.gate().as<double>()[0], 0.5);
    EXPECT_EQ(optimizer.gate().as<double>()[1], 1);
    // One that is spoiled is no step.
    gradients.as<float>()[t] = INFINITY;
    step();
    EXPECT_EQ(optimizer.gate().as<double>()[1], 0);
  }
  EXPECT_EQ(optimizer.steps(ctx), 4);
  for (int64_t i = 0; i < kElements; ++i) {
    // Four steps, each rounded to float32 a few times at a magnitude of at most 1.
    EXPECT_NEAR(weights.as<float>()[i], expected[static_cast<std::size_t>(i)].w, 4e-6) << i;
  }
}
INSTANTIATE_TEST_SUITE_P(AdamAndAdamW, OptimizerDecay, testing::Bool());

TEST(Ema, FollowsTheFormulaAndSwapsForValidation) {
  const ExecutionContext ctx;
  Tensor weights = Tensor::zeros({5}, DType::kF32);
  std::fill_n(weights.as<float>(), 5, 1.0F);
  Ema ema(ctx, 0.75, weights.view());
  std::fill_n(weights.as<float>(), 5, 3.0F);
  ema.update(ctx, weights.view());
  EXPECT_FLOAT_EQ(ema.average().as<float>()[4], 1.5F);  // 0.75 · 1 + 0.25 · 3
  ema.update(ctx, weights.view());
  EXPECT_FLOAT_EQ(ema.average().as<float>()[4], 1.875F);
  {
    const EmaSwap swap(ctx, &ema, weights.view());
    EXPECT_FLOAT_EQ(weights.as<float>()[0], 1.875F);
  }
  EXPECT_FLOAT_EQ(weights.as<float>()[0], 3.0F);
  EXPECT_FLOAT_EQ(ema.average().as<float>()[0], 1.875F);
  {
    const EmaSwap nothing(ctx, nullptr, weights.view());
    EXPECT_FLOAT_EQ(weights.as<float>()[0], 3.0F);
  }
}

}  // namespace
}  // namespace stemfabric
