// The harness catches what it promises to catch.
#include "tests/support/op_harness.h"

#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>

namespace stemfabric::test {
namespace {

TEST(OpHarness, TensorsAreMisalignedByOneElement) {
  for (DType dtype : {DType::kF32, DType::kF64, DType::kU8}) {
    GuardedTensor tensor({3, 5}, dtype);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.view().data()) % 64, dtype_size(dtype));
  }
}

TEST(OpHarness, LayoutsHoldTheSameValues) {
  const GuardedTensor plain = GuardedTensor::random({2, 3, 4, 5}, 1);
  const GuardedTensor swapped =
      GuardedTensor::random({2, 3, 4, 5}, 1, -1, 1, {.order = {1, 0, 2, 3}, .row_gap = 3});
  EXPECT_EQ(plain.values(), swapped.values());
  EXPECT_EQ(swapped.view().stride(3), 1);
  EXPECT_EQ(swapped.view().stride(2), 8);
  EXPECT_EQ(swapped.view().stride(0), 32);
  EXPECT_EQ(swapped.view().stride(1), 64);
}

TEST(OpHarness, NoticesWritesBesideTheElements) {
  const auto write_at = [](int64_t offset) {
    GuardedTensor tensor({2, 3}, DType::kF32, {.row_gap = 1});
    tensor.view().as<float>()[offset] = 0.0f;
  };
  const char* message = "was written";
  EXPECT_NONFATAL_FAILURE(write_at(-1), message);
  EXPECT_NONFATAL_FAILURE(write_at(3), message);  // the gap between the rows
  EXPECT_NONFATAL_FAILURE(write_at(7), message);
  write_at(4);
}

TEST(OpHarness, NoticesBitsThatDependOnTheRun) {
  static GuardedTensor output({4}, DType::kF32);
  static std::atomic<int> calls = 0;
  const auto drift = [] {
    calls = 0;
    run_repeatably({&output}, [](const ExecutionContext&) {
      output.set(2, ++calls == 5 ? std::nextafter(1.0f, 2.0f) : 1.0f);
    });
  };
  EXPECT_NONFATAL_FAILURE(drift(), "has other bits with 3 threads, run 1");
}

TEST(OpHarness, RunRepeatablyPutsAccumulatorsBack) {
  GuardedTensor sum = GuardedTensor::filled({1}, DType::kF32, 10);
  run_repeatably({&sum}, [&](const ExecutionContext& ctx) {
    EXPECT_TRUE(ctx.is_cpu());
    sum.set(0, sum.get(0) + 1);
  });
  EXPECT_EQ(sum.get(0), 11);
}

TEST(Tolerance, IsTwiceTheNaiveErrorPlusTheFloor) {
  const std::vector<double> oracle = {1.0, -2.0};
  const std::vector<double> naive = {1.0, -2.001};
  const auto share = [&](double second, Floor floor) {
    return share_of_bound(std::vector<double>{1.0, second}, naive, oracle, floor);
  };
  const Floor none = {.ulps = 0};
  EXPECT_NEAR(share(-2.001, none), 0.5, 1e-9);
  EXPECT_NEAR(share(-2.002, none), 1.0, 1e-9);
  EXPECT_GT(share(-2.0021, none), 1.0);
  EXPECT_LT(share(-2.0021, {.ulps = 0, .absolute = 0.001}), 1.0);
  EXPECT_EQ(share_of_bound(oracle, oracle, oracle, none), 0.0);
}

TEST(Tolerance, NanAndInfinityMustBeWhereTheOracleHasThem) {
  const std::vector<double> oracle = {1.0, kNaN, kInf};
  EXPECT_EQ(share_of_bound(oracle, oracle, oracle), 0.0);
  for (const auto& wrong : {std::vector<double>{kNaN, kNaN, kInf},
                            {1.0, 0.0, kInf},
                            {1.0, kNaN, -kInf},
                            {kInf, kNaN, kInf}}) {
    EXPECT_EQ(share_of_bound(wrong, oracle, oracle), kInf);
  }
}

TEST(GradientCheck, AcceptsTheDerivativeAndNothingElse) {
  std::vector<double> point = {0.3, -0.7};
  const auto f = [&] { return std::sin(point[0]) * std::exp(point[1]); };
  const std::vector<double> right = {std::cos(0.3) * std::exp(-0.7),
                                     std::sin(0.3) * std::exp(-0.7)};
  expect_gradient("right", point, f, right);
  static std::vector<double> at = point;
  static std::vector<double> wrong = {right[0], right[1] * (1 + 1e-6)};
  const auto check = [] {
    expect_gradient(
        "wrong", at, [] { return std::sin(at[0]) * std::exp(at[1]); }, wrong);
  };
  EXPECT_NONFATAL_FAILURE(check(), "coordinate 1");
}

}  // namespace
}  // namespace stemfabric::test
