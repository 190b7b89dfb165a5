#include "kernels/residual_norm/residual_norm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <numeric>

#include "tests/oracles/residual_norm_cases.h"
#include "tests/oracles/residual_norm_oracle.h"
#include "tests/support/op_harness.h"
#include "tests/support/simd_levels.h"

namespace stemfabric::test {
namespace {

ResidualNormShape shape_of(const ResidualNormCase& c) {
  return {
      .m = c.m,
      .c = c.c,
      .tokens_per_sample = c.tokens,
      .epsilon = static_cast<double>(1e-5f),
      .dropout = {
          .p = static_cast<float>(c.dropout), .key = philox_launch_key(42, 3, 1, 2), .sample0 = 5}};
}

std::vector<double> read(const GuardedTensor& tensor, bool present = true) {
  return present ? tensor.values() : std::vector<double>{};
}

class ResidualNormTest : public testing::TestWithParam<ResidualNormCase> {};
INSTANTIATE_TEST_SUITE_P(Cases, ResidualNormTest, testing::ValuesIn(residual_norm_test_cases()),
                         [](const auto& test) { return test.param.name; });

bool only_once(const ResidualNormCase& c) { return c.large && ops_are_emulated(); }

// On every path; a large case on an emulated device on that of aligned memory alone.
void for_each_path(const ResidualNormCase& c, const std::function<void()>& body) {
  if (!only_once(c)) {
    for_each_simd_level(body);
    return;
  }
  set_first_element(0);
  body();
  set_first_element(1);
}
void run(const ResidualNormCase& c, const std::vector<GuardedTensor*>& outputs,
         const std::function<void(const ExecutionContext&)>& op) {
  if (only_once(c)) {
    op(test_context(3));
  } else {
    run_repeatably(outputs, op);
  }
}

void check_forward(const ResidualNormCase& c) {
  const ResidualNormShape shape = shape_of(c);
  const GuardedTensor x = GuardedTensor::random({c.m, c.c}, 1);
  const GuardedTensor residual = GuardedTensor::random({c.m, c.c}, 2, c.offset - 1, c.offset + 1);
  const GuardedTensor gamma = GuardedTensor::random({c.c}, 3, 0.5, 1.5);
  const GuardedTensor beta = GuardedTensor::random({c.c}, 4);
  GuardedTensor sum({c.m, c.c}, DType::kF32), y({c.m, c.c}, DType::kF32);
  GuardedTensor mean({c.m}, DType::kF32), rstd({c.m}, DType::kF32);
  run(c, {&sum, &y, &mean, &rstd}, [&](const ExecutionContext& ctx) {
    residual_norm_forward(ctx, {.x = c.with_x ? x.view() : ConstTensorView(),
                                .residual = residual.view(),
                                .gamma = gamma.view(),
                                .beta = beta.view(),
                                .sum = sum.view(),
                                .y = y.view(),
                                .mean = mean.view(),
                                .rstd = rstd.view(),
                                .dropout = shape.dropout,
                                .tokens_per_sample = c.tokens});
  });
  const auto oracle = residual_norm_oracle<double>(shape, read(x, c.with_x), read(residual),
                                                   read(gamma), read(beta));
  const auto naive = residual_norm_oracle<float>(shape, read(x, c.with_x), read(residual),
                                                 read(gamma), read(beta));
  expect_within_bound("sum", sum.values(), widen(naive.sum), oracle.sum);
  expect_within_bound("y", y.values(), widen(naive.y), oracle.y);
  // The values that the mean averages may cancel: one rounding of their size is allowed.
  double magnitude = 0;
  for (double v : oracle.sum) {
    magnitude += std::abs(v) / static_cast<double>(oracle.sum.size());
  }
  expect_within_bound("mean", mean.values(), widen(naive.mean), oracle.mean,
                      {.absolute = 0x1p-24 * magnitude});
  expect_within_bound("rstd", rstd.values(), widen(naive.rstd), oracle.rstd);
}

TEST_P(ResidualNormTest, Forward) {
  for_each_path(GetParam(), [] { check_forward(GetParam()); });
}

void check_backward(const ResidualNormCase& c) {
  const ResidualNormShape shape = shape_of(c);
  const GuardedTensor dy = GuardedTensor::random({c.m, c.c}, 1);
  const GuardedTensor dsum = GuardedTensor::random({c.m, c.c}, 2);
  const GuardedTensor sum = GuardedTensor::random({c.m, c.c}, 3, c.offset - 1, c.offset + 1);
  const GuardedTensor mean = GuardedTensor::random({c.m}, 4, c.offset - 0.1, c.offset + 0.1);
  const GuardedTensor rstd = GuardedTensor::random({c.m}, 5, 0.5, 2);
  const GuardedTensor gamma = GuardedTensor::random({c.c}, 6, 0.5, 1.5);
  GuardedTensor dresidual({c.m, c.c}, DType::kF32), dx({c.m, c.c}, DType::kF32);
  GuardedTensor dgamma = GuardedTensor::filled({c.c}, DType::kF32, 0.25);  // accumulated
  GuardedTensor dbeta = GuardedTensor::filled({c.c}, DType::kF32, -0.5);
  run(c, {&dresidual, &dx, &dgamma, &dbeta}, [&](const ExecutionContext& ctx) {
    residual_norm_backward(ctx, {.dy = dy.view(),
                                 .dsum = c.with_dsum ? dsum.view() : ConstTensorView(),
                                 .sum = sum.view(),
                                 .mean = mean.view(),
                                 .rstd = rstd.view(),
                                 .gamma = gamma.view(),
                                 .dresidual = dresidual.view(),
                                 .dx = dx.view(),
                                 .dgamma = dgamma.view(),
                                 .dbeta = dbeta.view(),
                                 .dropout = shape.dropout,
                                 .tokens_per_sample = c.tokens});
  });
  const auto oracle = residual_norm_gradient_oracle<double>(
      shape, read(dy), read(dsum, c.with_dsum), read(sum), read(mean), read(rstd), read(gamma));
  const auto naive = residual_norm_gradient_oracle<float>(
      shape, read(dy), read(dsum, c.with_dsum), read(sum), read(mean), read(rstd), read(gamma));
  const auto plus = [](const std::vector<double>& values, double start) {
    std::vector<double> out = values;
    for (double& v : out) {
      v += start;
    }
    return out;
  };
  expect_within_bound("dresidual", dresidual.values(), widen(naive.dresidual), oracle.dresidual);
  expect_within_bound("dx", dx.values(), widen(naive.dx), oracle.dx);
  expect_within_bound("dgamma", dgamma.values(), plus(widen(naive.dgamma), 0.25),
                      plus(oracle.dgamma, 0.25));
  expect_within_bound("dbeta", dbeta.values(), plus(widen(naive.dbeta), -0.5),
                      plus(oracle.dbeta, -0.5));
}

TEST_P(ResidualNormTest, Backward) {
  for_each_path(GetParam(), [] { check_backward(GetParam()); });
}

// The oracle's gradient against finite differences of the oracle's forward.
TEST(ResidualNorm, OracleGradientIsTheDerivative) {
  const ResidualNormShape shape = shape_of({"", 6, 11, 0.3, 3});
  std::vector<double> x = GuardedTensor::random({6, 11}, 1).values();
  std::vector<double> residual = GuardedTensor::random({6, 11}, 2).values();
  std::vector<double> gamma = GuardedTensor::random({11}, 3, 0.5, 1.5).values();
  std::vector<double> beta = GuardedTensor::random({11}, 4).values();
  const std::vector<double> dy = GuardedTensor::random({6, 11}, 5).values();
  const std::vector<double> dsum = GuardedTensor::random({6, 11}, 6).values();
  const auto loss = [&] {
    const auto out = residual_norm_oracle<double>(shape, x, residual, gamma, beta);
    return std::inner_product(dy.begin(), dy.end(), out.y.begin(), 0.0) +
           std::inner_product(dsum.begin(), dsum.end(), out.sum.begin(), 0.0);
  };
  const auto out = residual_norm_oracle<double>(shape, x, residual, gamma, beta);
  const auto gradient =
      residual_norm_gradient_oracle<double>(shape, dy, dsum, out.sum, out.mean, out.rstd, gamma);
  expect_gradient("dx", x, loss, gradient.dx);
  expect_gradient("dresidual", residual, loss, gradient.dresidual);
  expect_gradient("dgamma", gamma, loss, gradient.dgamma);
  expect_gradient("dbeta", beta, loss, gradient.dbeta);
}

// With x = 1 and residual = 0 the sum shows the mask itself.
GuardedTensor mask_of(int64_t rows, int64_t channels, int64_t tokens,
                      const DropoutConfig& dropout) {
  const GuardedTensor ones = GuardedTensor::filled({rows, channels}, DType::kF32, 1);
  const GuardedTensor zeros = GuardedTensor::filled({rows, channels}, DType::kF32, 0);
  GuardedTensor sum({rows, channels}, DType::kF32);
  residual_norm_forward(test_context(), {.x = ones.view(),
                                         .residual = zeros.view(),
                                         .sum = sum.view(),
                                         .dropout = dropout,
                                         .tokens_per_sample = tokens});
  return sum;
}

TEST(ResidualNorm, DropoutDoesNotDependOnHowABatchIsCut) {
  DropoutConfig dropout = {.p = 0.1f, .key = philox_launch_key(1, 2, 3, 4), .sample0 = 100};
  const auto whole = mask_of(4 * 5, 37, 5, dropout).values();
  std::vector<double> cut;
  for (int64_t sample = 0; sample < 4; ++sample) {
    dropout.sample0 = 100 + sample;
    const auto part = mask_of(5, 37, 5, dropout).values();
    cut.insert(cut.end(), part.begin(), part.end());
  }
  EXPECT_EQ(whole, cut);
}

void check_dropout_share() {
  const DropoutConfig dropout = {.p = 0.1f, .key = philox_launch_key(1, 2, 3, 4)};
  const auto mask = mask_of(512, 256, 64, dropout).values();
  const auto kept =
      static_cast<double>(std::count_if(mask.begin(), mask.end(), [](double v) { return v != 0; }));
  // 131072 draws of probability 0.9: five standard deviations are 543.
  EXPECT_NEAR(kept, 0.9 * 131072, 543);
  const GuardedTensor ones = GuardedTensor::filled({512, 256}, DType::kF32, 1);
  GuardedTensor dresidual({512, 256}, DType::kF32), dx({512, 256}, DType::kF32);
  residual_norm_backward(test_context(), {.dsum = ones.view(),
                                          .dresidual = dresidual.view(),
                                          .dx = dx.view(),
                                          .dropout = dropout,
                                          .tokens_per_sample = 64});
  EXPECT_EQ(dx.values(), mask);
  EXPECT_EQ(dresidual.values(), ones.values());
}

TEST(ResidualNorm, DropoutKeepsTheShareItSaysAndForwardAndBackwardAgree) {
  for_each_simd_level(check_dropout_share);
}

// A mean 1e5 times the deviation: the rounding of the inputs is all that is lost.
void check_large_mean() {
  const int64_t c = 256;
  const GuardedTensor residual = GuardedTensor::random({8, c}, 1, 99999, 100001);
  const GuardedTensor gamma = GuardedTensor::filled({c}, DType::kF32, 1);
  const GuardedTensor beta = GuardedTensor::filled({c}, DType::kF32, 0);
  GuardedTensor sum({8, c}, DType::kF32), y({8, c}, DType::kF32);
  residual_norm_forward(test_context(), {.residual = residual.view(),
                                         .gamma = gamma.view(),
                                         .beta = beta.view(),
                                         .sum = sum.view(),
                                         .y = y.view()});
  ResidualNormShape shape = shape_of({"", 8, c});
  const auto oracle =
      residual_norm_oracle<double>(shape, {}, read(residual), read(gamma), read(beta));
  double worst = 0;
  for (std::size_t i = 0; i < oracle.y.size(); ++i) {
    worst = std::max(worst, std::abs(y.get(static_cast<int64_t>(i)) - oracle.y[i]));
  }
  EXPECT_LT(worst, 4e-7);  // a few roundings of values up to 1.8
}

TEST(ResidualNorm, ALargeMeanCostsNoAccuracy) { for_each_simd_level(check_large_mean); }

void check_in_place(int64_t c) {
  const int64_t m = 9;
  const DropoutConfig dropout = {.p = 0.2f, .key = philox_launch_key(9, 9, 9, 9)};
  const GuardedTensor x = GuardedTensor::random({m, c}, 1);
  const GuardedTensor gamma = GuardedTensor::random({c}, 3);
  GuardedTensor residual = GuardedTensor::random({m, c}, 2);
  GuardedTensor sum({m, c}, DType::kF32), y({m, c}, DType::kF32);
  GuardedTensor mean({m}, DType::kF32), rstd({m}, DType::kF32);
  ResidualNormForwardArgs forward = {.x = x.view(),
                                     .residual = residual.view(),
                                     .gamma = gamma.view(),
                                     .beta = gamma.view(),
                                     .sum = sum.view(),
                                     .y = y.view(),
                                     .mean = mean.view(),
                                     .rstd = rstd.view(),
                                     .dropout = dropout};
  residual_norm_forward(test_context(), forward);
  const auto apart = y.values();
  forward.sum = residual.view();
  residual_norm_forward(test_context(), forward);
  EXPECT_EQ(residual.values(), sum.values());
  EXPECT_EQ(y.values(), apart);

  GuardedTensor dy = GuardedTensor::random({m, c}, 5);
  GuardedTensor dsum = GuardedTensor::random({m, c}, 6);
  GuardedTensor dresidual({m, c}, DType::kF32), dx({m, c}, DType::kF32);
  GuardedTensor dgamma = GuardedTensor::filled({c}, DType::kF32, 0);
  GuardedTensor dbeta = GuardedTensor::filled({c}, DType::kF32, 0);
  ResidualNormBackwardArgs backward = {.dy = dy.view(),
                                       .dsum = dsum.view(),
                                       .sum = sum.view(),
                                       .mean = mean.view(),
                                       .rstd = rstd.view(),
                                       .gamma = gamma.view(),
                                       .dresidual = dresidual.view(),
                                       .dx = dx.view(),
                                       .dgamma = dgamma.view(),
                                       .dbeta = dbeta.view(),
                                       .dropout = dropout};
  residual_norm_backward(test_context(), backward);
  const auto expected = dresidual.values();
  const auto expected_dx = dx.values();
  const auto start = dsum.values();
  backward.dresidual = dsum.view();
  residual_norm_backward(test_context(), backward);
  EXPECT_EQ(dsum.values(), expected);
  EXPECT_EQ(dx.values(), expected_dx);
  dsum.assign(start);
  backward.dresidual = dy.view();
  residual_norm_backward(test_context(), backward);
  EXPECT_EQ(dy.values(), expected);
}

TEST(ResidualNorm, InPlaceGivesTheSameBits) {
  for_each_simd_level([] {
    for (int64_t c : {33, 256, 1024, 1028}) {
      check_in_place(c);
    }
  });
}

void check_non_finite() {
  const int64_t m = 5, c = 40;
  const DropoutConfig dropout = {.p = 0.5f, .key = philox_launch_key(1, 1, 1, 1)};
  const ResidualNormShape shape = {.m = m, .c = c, .dropout = dropout};
  GuardedTensor x = GuardedTensor::random({m, c}, 1);
  int64_t dropped = 0;
  int64_t kept = 0;
  while (residual_norm_keeps(shape, 1, dropped)) {
    ++dropped;
  }
  while (!residual_norm_keeps(shape, 3, kept)) {
    ++kept;
  }
  x.set(1 * c + dropped, kNaN);
  x.set(3 * c + kept, kInf);
  const GuardedTensor residual = GuardedTensor::random({m, c}, 2);
  const GuardedTensor gamma = GuardedTensor::filled({c}, DType::kF32, 1);
  GuardedTensor sum({m, c}, DType::kF32), y({m, c}, DType::kF32);
  residual_norm_forward(test_context(), {.x = x.view(),
                                         .residual = residual.view(),
                                         .gamma = gamma.view(),
                                         .beta = gamma.view(),
                                         .sum = sum.view(),
                                         .y = y.view(),
                                         .dropout = dropout});
  expect_non_finite_exactly("sum", sum.values(), [&](int64_t i) { return i == 3 * c + kept; });
  expect_non_finite_exactly("y", y.values(), [&](int64_t i) { return i / c == 3; });
}

TEST(ResidualNorm, ANanStaysInItsRowAndADroppedOneIsGone) { for_each_simd_level(check_non_finite); }

}  // namespace
}  // namespace stemfabric::test
