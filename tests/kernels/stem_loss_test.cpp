#include "kernels/stem_loss/stem_loss.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <numeric>

#include "tests/oracles/stem_loss_cases.h"
#include "tests/oracles/stem_loss_oracle.h"
#include "tests/support/op_harness.h"
#include "tests/support/simd_levels.h"

namespace stemfabric::test {
namespace {

// The tensors of one case, outputs at their start values.
struct Problem {
  explicit Problem(const StemLossCase& c)
      : shape{c.s, c.b, c.t, c.o},
        layout(c.strided ? Layout{.order = {1, 0, 2, 3}, .row_gap = c.row_gap} : Layout{}),
        prediction(GuardedTensor::random(shape, 1, -1, 1, layout)),
        target(GuardedTensor::random(shape, 2, -1, 1, layout)),
        target_mask(GuardedTensor::random_mask(shape, 3, 0.7, layout)),
        key_mask(GuardedTensor::random_mask({c.b, c.t}, 4, 0.8)),
        weight(GuardedTensor::random({c.b, c.s}, 5, 0.5, 2)),
        gradient(shape, DType::kF32, layout),
        count(GuardedTensor::filled({c.s}, DType::kF64, 0)),
        loss(GuardedTensor::filled({c.s}, DType::kF64, 0)),
        weighted(GuardedTensor::filled({c.s}, DType::kF64, 0)) {
    vary(target_mask);
    vary(key_mask);
  }

  // Present is what is not 0.
  static void vary(GuardedTensor& mask) {
    constexpr std::array kPresent = {1.0, 2.0, 128.0, 255.0};
    for (int64_t i = 0; i < mask.elements(); ++i) {
      mask.set(i, mask.get(i) == 0 ? 0 : kPresent[static_cast<std::size_t>(i % 4)]);
    }
  }

  StemCountArgs count_args(const StemLossCase& c) {
    return {.target_mask = c.target_mask ? target_mask.view() : ConstTensorView(),
            .key_mask = c.key_mask ? key_mask.view() : ConstTensorView(),
            .shape = shape,
            .count = count.view()};
  }
  StemLossArgs loss_args(const StemLossCase& c) {
    return {.prediction = prediction.view(),
            .target = target.view(),
            .target_mask = c.target_mask ? target_mask.view() : ConstTensorView(),
            .key_mask = c.key_mask ? key_mask.view() : ConstTensorView(),
            .weight = c.weight ? weight.view() : ConstTensorView(),
            .count = count.view(),
            .gradient = gradient.view(),
            .loss = loss.view(),
            .weighted = weighted.view()};
  }
  StemLossInput input(const StemLossCase& c) const {
    const auto read = [](const GuardedTensor& tensor, bool there) {
      return there ? tensor.values() : std::vector<double>{};
    };
    return {c.s,
            c.b,
            c.t,
            c.o,
            prediction.values(),
            target.values(),
            read(target_mask, c.target_mask),
            read(key_mask, c.key_mask),
            read(weight, c.weight)};
  }

  Shape shape;
  Layout layout;
  GuardedTensor prediction, target, target_mask, key_mask, weight, gradient, count, loss, weighted;
};

class StemLossTest : public testing::TestWithParam<StemLossCase> {};
INSTANTIATE_TEST_SUITE_P(Cases, StemLossTest, testing::ValuesIn(stem_loss_test_cases()),
                         [](const auto& test) { return test.param.name; });

void check_formula(const StemLossCase& c) {
  Problem p(c);
  p.count.assign(std::vector<double>(static_cast<std::size_t>(c.s), 10.0));  // accumulated
  run_repeatably({&p.count},
                 [&](const ExecutionContext& ctx) { stem_count(ctx, p.count_args(c)); });
  const StemLossInput input = p.input(c);
  const auto oracle = stem_loss_oracle<double>(input);
  const auto naive = stem_loss_oracle<float>(input);
  for (int64_t s = 0; s < c.s; ++s) {
    EXPECT_EQ(p.count.get(s), oracle.count[static_cast<std::size_t>(s)] + 10);
  }
  p.count.assign(oracle.count);
  run_repeatably({&p.gradient, &p.loss, &p.weighted},
                 [&](const ExecutionContext& ctx) { stem_loss(ctx, p.loss_args(c)); });
  const Floor float64_sums = {.ulps = 1e-6};
  expect_within_bound("loss", p.loss.values(), naive.loss, oracle.loss, float64_sums);
  expect_within_bound("weighted", p.weighted.values(), naive.weighted, oracle.weighted,
                      float64_sums);
  expect_within_bound("gradient", p.gradient.values(), naive.gradient, oracle.gradient);
}

TEST_P(StemLossTest, FollowsTheFormula) {
  for_each_simd_level([] { check_formula(GetParam()); });
}

// A bf16 gradient is the float32 one, rounded.
TEST_P(StemLossTest, Bf16GradientIsRounded) {
  for_each_simd_level([] {
    const StemLossCase& c = GetParam();
    Problem p(c);
    stem_count(test_context(), p.count_args(c));
    StemLossArgs args = p.loss_args(c);
    stem_loss(test_context(), args);
    const auto weighted = p.weighted.values();
    GuardedTensor narrow(p.shape, DType::kBF16, p.layout);
    args.gradient = narrow.view();
    p.loss.assign(std::vector<double>(static_cast<std::size_t>(c.s), 0.0));
    p.weighted.assign(std::vector<double>(static_cast<std::size_t>(c.s), 0.0));
    stem_loss(test_context(), args);
    EXPECT_EQ(narrow.values(), rounded_to_bf16(p.gradient.values()));
    EXPECT_EQ(p.weighted.values(), weighted);
  });
}

// Evaluation asks for no gradient and must get the same loss.
void check_without_gradient(const StemLossCase& c) {
  Problem p(c);
  stem_count(test_context(), p.count_args(c));
  StemLossArgs args = p.loss_args(c);
  stem_loss(test_context(), args);
  const auto with_gradient = p.weighted.values();
  p.loss.assign(std::vector<double>(static_cast<std::size_t>(c.s), 0.0));
  p.weighted.assign(std::vector<double>(static_cast<std::size_t>(c.s), 0.0));
  args.gradient = TensorView();
  stem_loss(test_context(), args);
  EXPECT_EQ(p.weighted.values(), with_gradient);
}

TEST_P(StemLossTest, WithoutGradientTheLossHasTheSameBits) {
  for_each_simd_level([] { check_without_gradient(GetParam()); });
}

// A gradient that lies differently in memory than the tensors it is formed from.
TEST(StemLoss, TheGradientsAlignmentChangesNoBit) {
  for_each_simd_level([] {
    const StemLossCase c = {"", 2, 2, 3, 64};
    Problem p(c);
    stem_count(test_context(), p.count_args(c));
    StemLossArgs args = p.loss_args(c);
    stem_loss(test_context(), args);
    GuardedTensor shifted({2, 2, 3, 67}, DType::kF32);
    args.gradient = shifted.view().slice(3, 2, 64);
    const auto first = p.loss.values();
    p.loss.assign(std::vector<double>(2, 0.0));
    stem_loss(test_context(), args);
    EXPECT_EQ(p.loss.values(), first);
    for (int64_t row = 0; row < 12; ++row) {
      for (int64_t i = 0; i < 64; ++i) {
        ASSERT_EQ(shifted.get(row * 67 + 2 + i), p.gradient.get(row * 64 + i));
      }
      ASSERT_TRUE(std::isnan(shifted.get(row * 67 + 1)));
      ASSERT_TRUE(std::isnan(shifted.get(row * 67 + 66)));
    }
  });
}

TEST(StemLoss, OracleGradientIsTheDerivative) {
  const StemLossCase c = {"", 3, 2, 4, 5};
  StemLossInput input = Problem(c).input(c);
  const auto gradient = stem_loss_oracle<double>(input).gradient;
  const auto total = [&] {
    const auto out = stem_loss_oracle<double>(input);
    return std::accumulate(out.weighted.begin(), out.weighted.end(), 0.0);
  };
  expect_gradient("prediction", input.prediction, total, gradient);
}

// NaN and infinity in absent elements, of both prediction and target, change no bit.
void check_absent_elements() {
  for (const StemLossCase& c : {StemLossCase{"", 6, 3, 5, 37},
                                {"", 6, 3, 5, 37, true, false},
                                {"", 6, 3, 5, 37, false, true, true, true}}) {
    Problem clean(c);
    Problem spoiled(c);
    const StemLossInput input = clean.input(c);
    std::vector<bool> absent(input.prediction.size());
    for (std::size_t i = 0; i < absent.size(); ++i) {
      const std::size_t key = i / 37 % (3 * 5);
      absent[i] =
          (c.target_mask && input.target_mask[i] == 0) || (c.key_mask && input.key_mask[key] == 0);
      if (absent[i]) {
        spoiled.target.set(static_cast<int64_t>(i), i % 2 == 0 ? kNaN : kInf);
        spoiled.prediction.set(static_cast<int64_t>(i), i % 3 == 0 ? kNaN : -kInf);
      }
    }
    for (Problem* p : {&clean, &spoiled}) {
      stem_count(test_context(), p->count_args(c));
      stem_loss(test_context(), p->loss_args(c));
    }
    EXPECT_EQ(spoiled.count.values(), clean.count.values());
    EXPECT_EQ(spoiled.loss.values(), clean.loss.values());
    EXPECT_EQ(spoiled.weighted.values(), clean.weighted.values());
    EXPECT_EQ(spoiled.gradient.values(), clean.gradient.values());
    for (std::size_t i = 0; i < absent.size(); ++i) {
      if (absent[i]) {
        EXPECT_EQ(spoiled.gradient.get(static_cast<int64_t>(i)), 0.0);
      }
    }
  }
}

TEST(StemLoss, AbsentElementsDoNotLeak) { for_each_simd_level(check_absent_elements); }

TEST(StemLoss, APresentNanReachesItsStemAndItsGradientOnly) {
  const StemLossCase c = {"", 4, 2, 3, 20, false, false, false};
  Problem p(c);
  const int64_t spoiled = 2 * 120 + 77;
  p.prediction.set(spoiled, kNaN);
  stem_count(test_context(), p.count_args(c));
  stem_loss(test_context(), p.loss_args(c));
  expect_non_finite_exactly("loss", p.loss.values(), [](int64_t s) { return s == 2; });
  expect_non_finite_exactly("gradient", p.gradient.values(),
                            [&](int64_t i) { return i == spoiled; });
}

// More elements than the blocks of a GPU's grid take without walking on; all sums are exact.
TEST(StemLoss, TakesLargeBatches) {
  const StemLossCase c = {"", 2, 40, 131, 101, true, true, false};
  Problem p(c);
  const int64_t n = c.b * c.t * c.o;
  for (int64_t i = 0; i < 2 * n; ++i) {
    p.prediction.set(i, 1.5);
    p.target.set(i, 1);
    p.target_mask.set(i, i / c.o % 2);  // every other token
  }
  for (int64_t i = 0; i < c.b * c.t; ++i) {
    p.key_mask.set(i, 1);
  }
  stem_count(test_context(), p.count_args(c));
  stem_loss(test_context(), p.loss_args(c));
  const double present = static_cast<double>(n) / 2;
  EXPECT_EQ(p.count.values(), (std::vector<double>{present, present}));
  EXPECT_EQ(p.loss.values(), (std::vector<double>{0.25, 0.25}));
  EXPECT_EQ(p.weighted.values(), (std::vector<double>{0.25, 0.25}));
  const auto gradient = p.gradient.values();
  for (int64_t i = 0; i < 2 * n; ++i) {
    ASSERT_EQ(gradient[static_cast<std::size_t>(i)],
              i / c.o % 2 == 0 ? 0.0 : static_cast<float>(1 / present));
  }
}

TEST(StemLoss, AStemWithNothingPresentHasLossAndGradientZero) {
  const StemLossCase c = {"", 3, 2, 3, 17};
  Problem p(c);
  for (int64_t i = 0; i < 2 * 3 * 17; ++i) {
    p.target_mask.set(1 * 2 * 3 * 17 + i, 0);
    p.target.set(1 * 2 * 3 * 17 + i, kNaN);
  }
  stem_count(test_context(), p.count_args(c));
  stem_loss(test_context(), p.loss_args(c));
  EXPECT_EQ(p.count.get(1), 0.0);
  EXPECT_EQ(p.loss.get(1), 0.0);
  EXPECT_EQ(p.weighted.get(1), 0.0);
  EXPECT_GT(p.loss.get(0), 0.0);
  for (int64_t i = 0; i < 2 * 3 * 17; ++i) {
    EXPECT_EQ(p.gradient.get(1 * 2 * 3 * 17 + i), 0.0);
  }
}

// Two micro-batches with one denominator add up to the whole batch.
TEST(StemLoss, MicroBatchesShareADenominator) {
  const StemLossCase c = {"", 2, 4, 3, 20};
  Problem whole(c);
  stem_count(test_context(), whole.count_args(c));
  stem_loss(test_context(), whole.loss_args(c));
  Problem parts(c);
  StemLossArgs args = parts.loss_args(c);
  for (int64_t half = 0; half < 2; ++half) {
    StemCountArgs count = parts.count_args(c);
    count.shape = Shape({2, 2, 3, 20});
    count.target_mask = count.target_mask.slice(1, 2 * half, 2);
    count.key_mask = count.key_mask.slice(0, 2 * half, 2);
    stem_count(test_context(), count);
  }
  EXPECT_EQ(parts.count.values(), whole.count.values());
  for (int64_t half = 0; half < 2; ++half) {
    StemLossArgs part = args;
    for (ConstTensorView* view : {&part.prediction, &part.target, &part.target_mask}) {
      *view = view->slice(1, 2 * half, 2);
    }
    part.gradient = part.gradient.slice(1, 2 * half, 2);
    part.key_mask = part.key_mask.slice(0, 2 * half, 2);
    part.weight = part.weight.slice(0, 2 * half, 2);
    stem_loss(test_context(), part);
  }
  EXPECT_EQ(parts.gradient.values(), whole.gradient.values());
  for (int64_t s = 0; s < 2; ++s) {
    EXPECT_NEAR(parts.weighted.get(s), whole.weighted.get(s), 1e-15);
  }
}

}  // namespace
}  // namespace stemfabric::test
