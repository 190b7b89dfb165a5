#include "kernels/standardize/standardize.h"

#include <gtest/gtest.h>

#include "tests/support/op_harness.h"

namespace stemfabric::test {
namespace {

// The op is its own formula, so oracle and naive computation are written here.
template <typename T>
std::vector<double> standardized(const std::vector<double>& x, const std::vector<double>& mean,
                                 const std::vector<double>& scale) {
  std::vector<double> y;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t c = i % mean.size();
    y.push_back((static_cast<T>(x[i]) - static_cast<T>(mean[c])) * static_cast<T>(scale[c]));
  }
  return y;
}

TEST(Standardize, FollowsTheFormula) {
  for (const Shape& shape : {Shape{1, 1}, Shape{3, 7}, Shape{64, 16}, Shape{131, 33}}) {
    // A mean far from zero against a small deviation, as features have.
    const GuardedTensor x = GuardedTensor::random(shape, 1, 999, 1001);
    const GuardedTensor mean = GuardedTensor::random({shape[1]}, 2, 999.5, 1000.5);
    const GuardedTensor scale = GuardedTensor::random({shape[1]}, 3, 0.5, 2);
    GuardedTensor y(shape, DType::kF32);
    run_repeatably({&y}, [&](const ExecutionContext& ctx) {
      standardize(ctx, {.x = x.view(), .mean = mean.view(), .scale = scale.view(), .y = y.view()});
    });
    expect_within_bound("y " + shape.to_string(), y.values(),
                        standardized<float>(x.values(), mean.values(), scale.values()),
                        standardized<double>(x.values(), mean.values(), scale.values()));
  }
}

TEST(Standardize, WorksInPlaceAndPassesNonFiniteValuesOn) {
  GuardedTensor x = GuardedTensor::filled({2, 3}, DType::kF32, 5);
  x.set(1, kNaN);
  x.set(5, kInf);
  const GuardedTensor mean = GuardedTensor::filled({3}, DType::kF32, 1);
  const GuardedTensor scale = GuardedTensor::filled({3}, DType::kF32, 2);
  standardize(test_context(),
              {.x = x.view(), .mean = mean.view(), .scale = scale.view(), .y = x.view()});
  EXPECT_EQ(x.get(0), 8);
  expect_non_finite_exactly("y", x.values(), [](int64_t i) { return i == 1 || i == 5; });
}

TEST(Standardize, RefusesWrongShapes) {
  const GuardedTensor x = GuardedTensor::random({4, 3}, 1);
  const GuardedTensor stats = GuardedTensor::random({2}, 1);
  GuardedTensor y({4, 3}, DType::kF32);
  expect_contract_error({"standardize", "mean", "[2]"}, [&] {
    standardize(test_context(),
                {.x = x.view(), .mean = stats.view(), .scale = stats.view(), .y = y.view()});
  });
}

}  // namespace
}  // namespace stemfabric::test
