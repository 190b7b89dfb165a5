// Residual + dropout + norm of bf16 tensors against its float64 oracle.
#include <gtest/gtest.h>

#include "kernels/residual_norm/residual_norm.h"
#include "tests/oracles/residual_norm_oracle.h"
#include "tests/support/bf16.h"
#include "tests/support/simd_levels.h"

namespace stemfabric::test {
namespace {

using Values = std::vector<double>;

struct NormSizes {
  int64_t m, c;
  float dropout = 0;
};
// Rows in the registers of part of a warp, of a warp, of a block; of a width or at addresses that
// vectors cannot take; longer ones.
const NormSizes kNormSizes[] = {{1, 1},          {7, 3, 0.1F},    {13, 60, 0.1F}, {9, 124},
                                {7, 255},        {66, 256, 0.1F}, {5, 500, 0.1F}, {7, 1024, 0.1F},
                                {3, 1025, 0.1F}, {5, 2100, 0.9F}, {1040, 4, 0.1F}};

ResidualNormShape norm_shape(const NormSizes& s) {
  return {.m = s.m,
          .c = s.c,
          .tokens_per_sample = 3,
          .epsilon = static_cast<double>(1e-5F),
          .dropout = {.p = s.dropout, .key = philox_launch_key(42, 3, 1, 2), .sample0 = 5}};
}

void check_norm_forward(const NormSizes& s) {
  const ResidualNormShape shape = norm_shape(s);
  const auto x = random_bf16({s.m, s.c}, 1);
  const auto residual = random_bf16({s.m, s.c}, 2, 1, 3);
  const auto gamma = GuardedTensor::random({s.c}, 3, 0.5, 1.5);
  const auto beta = GuardedTensor::random({s.c}, 4);
  GuardedTensor sum({s.m, s.c}, DType::kBF16), y({s.m, s.c}, DType::kBF16);
  GuardedTensor mean({s.m}, DType::kF32), rstd({s.m}, DType::kF32);
  run_repeatably({&sum, &y, &mean, &rstd}, [&](const ExecutionContext& ctx) {
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
  });
  const auto norm = [&]<typename T>(const Values& branch, const Values& stream) {
    return residual_norm_oracle<T>(shape, branch, stream, gamma.values(), beta.values());
  };
  const auto sums = norm.template operator()<double>(x.values(), residual.values()).sum;
  const auto naive_sums = norm.template operator()<float>(x.values(), residual.values()).sum;
  expect_within_bound("sum", sum.values(), rounded_to_bf16(widen(naive_sums)), sums, kBf16Floor);
  // The norm is of the sum that was kept.
  const auto oracle = norm.template operator()<double>({}, sum.values());
  const auto naive = norm.template operator()<float>({}, sum.values());
  expect_within_bound("y", y.values(), rounded_to_bf16(widen(naive.y)), oracle.y, kBf16Floor);
  expect_within_bound("mean", mean.values(), widen(naive.mean), oracle.mean);
  expect_within_bound("rstd", rstd.values(), widen(naive.rstd), oracle.rstd);
}

void check_norm_backward(const NormSizes& s) {
  const ResidualNormShape shape = norm_shape(s);
  const auto dy = random_bf16({s.m, s.c}, 1);
  const auto dsum = random_bf16({s.m, s.c}, 2);
  const auto sum = random_bf16({s.m, s.c}, 3);
  const auto mean = GuardedTensor::random({s.m}, 4, -0.1, 0.1);
  const auto rstd = GuardedTensor::random({s.m}, 5, 0.5, 2);
  const auto gamma = GuardedTensor::random({s.c}, 6, 0.5, 1.5);
  GuardedTensor dresidual({s.m, s.c}, DType::kBF16), dx({s.m, s.c}, DType::kBF16);
  GuardedTensor dgamma = GuardedTensor::filled({s.c}, DType::kF32, 0);
  GuardedTensor dbeta = GuardedTensor::filled({s.c}, DType::kF32, 0);
  run_repeatably({&dresidual, &dx, &dgamma, &dbeta}, [&](const ExecutionContext& ctx) {
    residual_norm_backward(ctx, {.dy = dy.view(),
                                 .dsum = dsum.view(),
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
  });
  const auto gradient = [&]<typename T>() {
    return residual_norm_gradient_oracle<T>(shape, dy.values(), dsum.values(), sum.values(),
                                            mean.values(), rstd.values(), gamma.values());
  };
  const auto oracle = gradient.template operator()<double>();
  const auto naive = gradient.template operator()<float>();
  expect_within_bound("dresidual", dresidual.values(), rounded_to_bf16(widen(naive.dresidual)),
                      oracle.dresidual, kBf16Floor);
  expect_within_bound("dx", dx.values(), rounded_to_bf16(widen(naive.dx)), oracle.dx, kBf16Floor);
  expect_within_bound("dgamma", dgamma.values(), widen(naive.dgamma), oracle.dgamma);
  expect_within_bound("dbeta", dbeta.values(), widen(naive.dbeta), oracle.dbeta);
}

TEST(Bf16Norm, FollowsTheFormulas) {
  for_each_simd_level([] {
    for (const NormSizes& s : kNormSizes) {
      check_norm_forward(s);
      check_norm_backward(s);
    }
  });
}

// Without a branch, without a norm, and in the memory of the inputs: as in float32.
TEST(Bf16Norm, PassesOnAndWorksInPlace) {
  const auto gamma = GuardedTensor::random({40}, 3);
  const auto stream = random_bf16({6, 40}, 1);
  GuardedTensor residual({6, 40}, DType::kBF16);
  GuardedTensor y({6, 40}, DType::kBF16), y_alone({6, 40}, DType::kBF16);
  GuardedTensor sum({6, 40}, DType::kBF16);
  const auto norm = [&](const TensorView& to, const TensorView& result) {
    residual.assign(stream.values());
    residual_norm_forward(test_context(), {.residual = residual.view(),
                                           .gamma = gamma.view(),
                                           .beta = gamma.view(),
                                           .sum = to,
                                           .y = result});
    wait_for_ops();
  };
  norm(sum.view(), y_alone.view());
  EXPECT_EQ(sum.values(), stream.values());
  norm(residual.view(), y.view());
  EXPECT_EQ(residual.values(), stream.values());
  EXPECT_EQ(y.values(), y_alone.values());
  GuardedTensor dresidual({6, 40}, DType::kBF16);
  residual_norm_backward(test_context(), {.dsum = stream.view(), .dresidual = dresidual.view()});
  wait_for_ops();
  EXPECT_EQ(dresidual.values(), stream.values());
}

}  // namespace
}  // namespace stemfabric::test
