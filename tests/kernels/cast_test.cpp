// Casts, to the bit, and what bf16 is.
#include "kernels/cast/cast.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "runtime/core/bf16.h"
#include "tests/support/op_harness.h"
#include "tests/support/simd_levels.h"

namespace stemfabric::test {
namespace {

// By the definition: of the two bf16 around it the nearer, the even one in the middle.
double nearest_bf16(double x) {
  const double unit = std::ldexp(1.0, std::max(std::ilogb(x), -126) - 7);
  return std::nearbyint(x / unit) * unit;
}

TEST(Cast, Bf16IsTheNearestToTheEven) {
  const auto random = GuardedTensor::random({20000}, 1, -4, 4);
  for (int64_t i = 0; i < random.elements(); ++i) {
    const double x = random.get(i);
    EXPECT_EQ(static_cast<double>(round_to_bf16(static_cast<float>(x))), nearest_bf16(x)) << x;
  }
  for (const double x : {1 + 0x1p-8, 1 + 3 * 0x1p-8, 1 + 0x1p-8 + 0x1p-20, -1 - 0x1p-8, 0x1p-130,
                         0x1p-133, 3 * 0x1p-135, 0x1p-149}) {
    EXPECT_EQ(static_cast<double>(round_to_bf16(static_cast<float>(x))), nearest_bf16(x)) << x;
  }
  EXPECT_EQ(round_to_bf16(3.4e38F), std::numeric_limits<float>::infinity());
  EXPECT_EQ(round_to_bf16(-std::numeric_limits<float>::infinity()),
            -std::numeric_limits<float>::infinity());
  EXPECT_EQ(to_bf16(std::numeric_limits<float>::quiet_NaN()).bits, 0x7FFF);
  EXPECT_EQ(to_bf16(__builtin_bit_cast(float, 0x7F800001U)).bits, 0x7FFF);  // not infinity
  EXPECT_EQ(to_bf16(-0.0F).bits, 0x8000);
}

void check_cast(const Shape& shape) {
  const auto x = GuardedTensor::random(shape, 1, -3, 3);
  GuardedTensor narrow(shape, DType::kBF16);
  GuardedTensor wide(shape, DType::kF32);
  run_repeatably({&narrow, &wide}, [&](const ExecutionContext& ctx) {
    cast(ctx, {.x = x.view(), .y = narrow.view()});
    cast(ctx, {.x = narrow.view(), .y = wide.view()});
  });
  EXPECT_EQ(narrow.values(), rounded_to_bf16(x.values())) << shape.to_string();
  EXPECT_EQ(wide.values(), narrow.values()) << shape.to_string();
}

TEST(Cast, RoundsEveryElement) {
  for_each_simd_level([] {
    for (const Shape& shape : {Shape{0}, Shape{1}, Shape{7}, Shape{8}, Shape{3, 5, 3}, Shape{2048},
                               Shape{2049}, Shape{4090}}) {
      check_cast(shape);
    }
  });
}

TEST(Cast, SpecialValues) {
  for_each_simd_level([] {
    GuardedTensor x({8}, DType::kF32);
    x.assign(std::vector<double>{0.0, -0.0, kNaN, kInf, -kInf, 3.4e38, 1 + 0x1p-8, 1 + 3 * 0x1p-8});
    GuardedTensor y({8}, DType::kBF16);
    cast(test_context(), {.x = x.view(), .y = y.view()});
    for (int64_t i = 0; i < 8; ++i) {
      const double want = rounded_to_bf16(std::vector<double>{x.get(i)})[0];
      EXPECT_TRUE(y.get(i) == want || (std::isnan(y.get(i)) && std::isnan(want))) << i;
    }
  });
}

TEST(CastContract, NamesTheTensorAtFault) {
  const auto x = GuardedTensor::random({4, 5}, 1);
  GuardedTensor same({4, 5}, DType::kF32);
  GuardedTensor other({5, 4}, DType::kBF16);
  const auto& ctx = test_context();
  expect_contract_error({"cast", "y", "f32", "expected [4, 5] bf16"},
                        [&] { cast(ctx, {.x = x.view(), .y = same.view()}); });
  expect_contract_error({"cast", "y", "[5, 4]"},
                        [&] { cast(ctx, {.x = x.view(), .y = other.view()}); });
  expect_contract_error({"cast", "x is missing"}, [&] { cast(ctx, {.y = same.view()}); });
}

}  // namespace
}  // namespace stemfabric::test
