#include "kernels/reduction/reduction.h"

#include <gtest/gtest.h>

#include "tests/oracles/reduction_oracle.h"
#include "tests/support/op_harness.h"
#include "tests/support/simd_levels.h"

namespace stemfabric::test {
namespace {

// Runs on 1, 2 and 3 threads; the result is the same every time, and on the host as well.
SumSquares repeatable_sum_squares(const GuardedTensor& x) {
  GuardedTensor out({3}, DType::kF64);
  run_repeatably({&out}, [&](const ExecutionContext& ctx) {
    sum_squares_into(ctx, {.x = x.view(), .result = out.view()});
    const SumSquares s = sum_squares(ctx, x.view());
    EXPECT_EQ(s.sum, out.get(0));
    EXPECT_EQ(static_cast<double>(s.non_finite), out.get(1));
    EXPECT_EQ(static_cast<double>(s.first_non_finite), out.get(2));
  });
  return sum_squares_of({out.get(0), out.get(1), out.get(2)});
}

TEST(SumSquares, IsAFloat64Sum) {
  for_each_simd_level([] {
    for (int64_t n : {0, 1, 2, 3, 4, 5, 7, 16, 33, 16384, 16385, 100003}) {
      const GuardedTensor x = GuardedTensor::random({n}, 1, -10, 10);
      const SumSquares s = repeatable_sum_squares(x);
      const double oracle = sum_squares_oracle<double>(x.values());
      EXPECT_NEAR(s.sum, oracle, 1e-13 * oracle) << n;
      EXPECT_EQ(s.non_finite, 0);
      EXPECT_EQ(s.first_non_finite, -1);
    }
  });
}

TEST(SumSquares, CountsWhatIsNotFiniteAndLeavesItOut) {
  for_each_simd_level([] {
    GuardedTensor x = GuardedTensor::random({50000}, 2);
    for (int64_t i : {17003, 17005, 40000, 49999}) {
      x.set(i, i == 40000 ? kInf : kNaN);
    }
    const SumSquares s = repeatable_sum_squares(x);
    EXPECT_EQ(s.non_finite, 4);
    EXPECT_EQ(s.first_non_finite, 17003);
    const double oracle = sum_squares_oracle<double>(x.values());
    EXPECT_NEAR(s.sum, oracle, 1e-13 * oracle);
  });
}

// Every place that is not finite is found, whichever thread, vector or end of the array it is in.
TEST(SumSquares, FindsTheFirstThatIsNotFiniteAnywhere) {
  for_each_simd_level([] {
    GuardedTensor x = GuardedTensor::filled({4200}, DType::kF32, 1);
    for (int64_t i : {4199, 4198, 4197, 4096, 4095, 1025, 1024, 1023, 128, 4, 3, 2, 1, 0}) {
      x.set(i, i % 2 == 0 ? kNaN : -kInf);
      const SumSquares s = sum_squares(test_context(), x.view());
      EXPECT_EQ(s.first_non_finite, i);
      EXPECT_EQ(s.sum + static_cast<double>(s.non_finite), 4200);
    }
  });
}

// More than the blocks of a GPU's grid take at once.
TEST(SumSquares, TakesLargeArrays) {
  constexpr int64_t kElements = 4'300'007;
  GuardedTensor x = GuardedTensor::filled({kElements}, DType::kF32, 2);
  x.set(4'299'999, kNaN);
  x.set(4'194'400, kInf);
  const SumSquares s = sum_squares(test_context(), x.view());
  EXPECT_EQ(s.sum, 4.0 * (kElements - 2));
  EXPECT_EQ(s.non_finite, 2);
  EXPECT_EQ(s.first_non_finite, 4'194'400);
}

TEST(SumSquares, DoesNotOverflow) {
  const GuardedTensor x = GuardedTensor::filled({1000}, DType::kF32, 3e38);
  EXPECT_NEAR(sum_squares(test_context(), x.view()).sum / 9e79, 1.0, 1e-6);
}

struct ColumnSumCase {
  int64_t m, n, period, gap;
};

TEST(ColumnSum, AddsTheRowsOfEachClass) {
  for_each_simd_level([] {
    for (const ColumnSumCase& c : {ColumnSumCase{1, 1, 1, 0},
                                   {7, 3, 1, 2},
                                   {2048, 256, 1, 0},
                                   {300, 255, 1, 9},
                                   {96, 33, 32, 0},
                                   {100, 16, 32, 1},  // classes of unequal size
                                   {3, 5, 8, 0},      // some classes are empty
                                   {0, 5, 2, 0},
                                   {2000, 4, 3, 4},
                                   {513, 300, 2, 4}}) {
      const GuardedTensor x = GuardedTensor::random({c.m, c.n}, 1, -1, 2, {.row_gap = c.gap});
      GuardedTensor out = GuardedTensor::random({c.period, c.n}, 2);
      const auto start = out.values();
      run_repeatably({&out}, [&](const ExecutionContext& ctx) {
        column_sum(ctx, {.x = x.view(), .out = out.view()});
      });
      expect_within_bound("out", out.values(), widen(column_sum_oracle<float>(x.values(), start)),
                          column_sum_oracle<double>(x.values(), start));
    }
  });
}

void check_nan() {
  GuardedTensor x = GuardedTensor::random({20, 9}, 1);
  x.set(13 * 9 + 4, kNaN);
  GuardedTensor out = GuardedTensor::filled({5, 9}, DType::kF32, 0);
  column_sum(test_context(), {.x = x.view(), .out = out.view()});
  expect_non_finite_exactly("out", out.values(), [](int64_t i) { return i == 3 * 9 + 4; });
}

TEST(ColumnSum, ANanStaysInItsColumnAndClass) { for_each_simd_level(check_nan); }

}  // namespace
}  // namespace stemfabric::test
