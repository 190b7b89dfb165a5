#include "kernels/stem_mask/stem_mask.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "tests/oracles/stem_mask_cases.h"
#include "tests/oracles/stem_mask_oracle.h"
#include "tests/support/op_harness.h"
#include "tests/support/simd_levels.h"

namespace stemfabric::test {
namespace {

// A row of 2K floats as [K, 2]; the guards of GuardedTensor lie between rows.
template <bool kConst>
BasicTensorView<kConst> as_spectra(const BasicTensorView<kConst>& rows) {
  const int last = rows.rank() - 1;
  std::vector<int64_t> dims(rows.shape().dims().begin(), rows.shape().dims().end());
  auto strides = rows.strides();
  dims[static_cast<std::size_t>(last)] /= 2;
  dims.push_back(2);
  strides[static_cast<std::size_t>(last)] = 2;
  strides[static_cast<std::size_t>(last) + 1] = 1;
  return {rows.data(), rows.dtype(), Shape(dims), strides};
}

template <typename T>
GuardedTensor table_tensor(const std::vector<T>& values, DType dtype) {
  GuardedTensor tensor({static_cast<int64_t>(values.size())}, dtype);
  tensor.assign(std::vector<double>(values.begin(), values.end()));
  return tensor;
}

// The tensors of one case, outputs at their start values.
struct Problem {
  explicit Problem(const StemMaskCase& shape)
      : c(shape),
        table(mask_band_table(c.bands, c.k)),
        band(table_tensor(table.band, DType::kI32)),
        fraction(table_tensor(table.fraction, DType::kF32)),
        first_bin(table_tensor(table.first_bin, DType::kI32)),
        prediction(GuardedTensor::random({c.s, c.b, c.t, c.outputs()}, 1, -2, 2, rows())),
        mixture(GuardedTensor::random({c.b, c.c, c.t, 2 * c.k}, 2, -3, 3,
                                      c.strided ? Layout{{2, 0, 1, 3}, c.row_gap} : Layout())),
        target(GuardedTensor::random({c.s, c.b, c.c, c.t, 2 * c.k}, 3, -2, 2, spectra())),
        presence(GuardedTensor::random_mask({c.b, c.s}, 5, 0.7)),
        key_mask(GuardedTensor::random_mask({c.b, c.t}, 6, 0.8)),
        weight(GuardedTensor::random({c.b, c.s}, 7, 0.5, 2)),
        estimate({c.s, c.b, c.c, c.t, 2 * c.k}, DType::kF32, spectra()),
        gradient({c.s, c.b, c.t, c.outputs()}, DType::kF32, rows()),
        count(GuardedTensor::filled({c.s}, DType::kF64, 0)),
        loss(GuardedTensor::filled({c.s}, DType::kF64, 0)),
        weighted(GuardedTensor::filled({c.s}, DType::kF64, 0)) {
    presence.set(0, 255);  // present is what is not 0
    key_mask.set(0, 128);
  }
  // Sample first, as batches lie.
  Layout spectra() const { return c.strided ? Layout{{1, 0, 2, 3, 4}, c.row_gap} : Layout(); }
  Layout rows() const { return c.strided ? Layout{{1, 2, 0, 3}, c.row_gap} : Layout(); }

  MaskApplyArgs apply_args() {
    return {.kind = c.complex_mask ? MaskKind::kComplex : MaskKind::kReal,
            .band = band.view(),
            .fraction = fraction.view(),
            .first_bin = first_bin.view(),
            .prediction = prediction.view(),
            .mixture = as_spectra(mixture.view()),
            .estimate = as_spectra(estimate.view())};
  }
  MaskCountArgs count_args() {
    return {.presence = c.presence ? presence.view() : ConstTensorView(),
            .key_mask = c.key_mask ? key_mask.view() : ConstTensorView(),
            .shape = {c.s, c.b, c.c, c.t, c.k},
            .count = count.view()};
  }
  MaskLossArgs loss_args() {
    return {.kind = c.complex_mask ? MaskKind::kComplex : MaskKind::kReal,
            .magnitude_weight = c.magnitude_weight,
            .complex_weight = c.complex_weight,
            .compression = c.compression,
            .epsilon = 0.03,
            .band = band.view(),
            .fraction = fraction.view(),
            .first_bin = first_bin.view(),
            .prediction = prediction.view(),
            .mixture = as_spectra(mixture.view()),
            .target = as_spectra(target.view()),
            .presence = c.presence ? presence.view() : ConstTensorView(),
            .key_mask = c.key_mask ? key_mask.view() : ConstTensorView(),
            .weight = c.weight ? weight.view() : ConstTensorView(),
            .count = count.view(),
            .gradient = gradient.view(),
            .loss = loss.view(),
            .weighted = weighted.view()};
  }
  StemMaskInput input() const {
    const auto read = [](const GuardedTensor& tensor, bool there) {
      return there ? tensor.values() : std::vector<double>{};
    };
    return {.shape = c,
            .epsilon = 0.03,
            .prediction = prediction.values(),
            .mixture = mixture.values(),
            .target = target.values(),
            .presence = read(presence, c.presence),
            .key_mask = read(key_mask, c.key_mask),
            .weight = read(weight, c.weight)};
  }
  void count_and_loss() {
    mask_count(test_context(), count_args());
    mask_loss(test_context(), loss_args());
  }
  void clear_sums() {
    for (GuardedTensor* sum : {&loss, &weighted}) {
      sum->assign(std::vector<double>(static_cast<std::size_t>(c.s), 0.0));
    }
  }

  StemMaskCase c;
  MaskBandTable table;
  GuardedTensor band, fraction, first_bin;
  GuardedTensor prediction, mixture, target, presence, key_mask, weight;
  GuardedTensor estimate, gradient, count, loss, weighted;
};

class StemMaskTest : public testing::TestWithParam<StemMaskCase> {};
INSTANTIATE_TEST_SUITE_P(Cases, StemMaskTest, testing::ValuesIn(stem_mask_test_cases()),
                         [](const auto& test) { return test.param.name; });

// A sum has few elements in the small cases: its rounding need not be like that of the naive one,
// but an element is formed in less than eight roundings.
constexpr Floor kElementRoundings = {.ulps = 8};

void check_loss(const StemMaskCase& c) {
  Problem p(c);
  p.count.assign(std::vector<double>(static_cast<std::size_t>(c.s), 10.0));  // accumulated
  run_repeatably({&p.count}, [&](const ExecutionContext& ctx) { mask_count(ctx, p.count_args()); });
  const auto oracle = stem_mask_oracle<double>(p.input());
  const auto naive = stem_mask_oracle<float>(p.input());
  for (int64_t s = 0; s < c.s; ++s) {
    EXPECT_EQ(p.count.get(s), oracle.count[static_cast<std::size_t>(s)] + 10);
  }
  p.count.assign(oracle.count);
  p.weighted.set(0, 3);  // accumulated
  run_repeatably({&p.gradient, &p.loss, &p.weighted},
                 [&](const ExecutionContext& ctx) { mask_loss(ctx, p.loss_args()); });
  p.weighted.set(0, p.weighted.get(0) - 3);
  expect_within_bound("loss", p.loss.values(), naive.loss, oracle.loss, kElementRoundings);
  expect_within_bound("weighted", p.weighted.values(), naive.weighted, oracle.weighted,
                      kElementRoundings);
  expect_within_bound("gradient", p.gradient.values(), naive.gradient, oracle.gradient);
}

TEST_P(StemMaskTest, LossAndGradientFollowTheFormula) {
  for_each_simd_level([] { check_loss(GetParam()); });
}

void check_apply(const StemMaskCase& c) {
  Problem p(c);
  run_repeatably({&p.estimate},
                 [&](const ExecutionContext& ctx) { mask_apply(ctx, p.apply_args()); });
  p.c.presence = p.c.key_mask = false;  // there is nothing absent in an estimate
  const auto oracle = stem_mask_oracle<double>(p.input());
  const auto naive = stem_mask_oracle<float>(p.input());
  expect_within_bound("estimate", p.estimate.values(), naive.estimate, oracle.estimate);
}

TEST_P(StemMaskTest, EstimatesFollowTheFormula) {
  for_each_simd_level([] { check_apply(GetParam()); });
}

// A bf16 gradient is the float32 one, rounded.
TEST_P(StemMaskTest, Bf16GradientIsRounded) {
  for_each_simd_level([] {
    Problem p(GetParam());
    p.count_and_loss();
    const auto weighted = p.weighted.values();
    GuardedTensor narrow(p.gradient.view().shape(), DType::kBF16, {.row_gap = 2});
    p.clear_sums();
    MaskLossArgs args = p.loss_args();
    args.gradient = narrow.view();
    mask_loss(test_context(), args);
    EXPECT_EQ(narrow.values(), rounded_to_bf16(p.gradient.values()));
    EXPECT_EQ(p.weighted.values(), weighted);
  });
}

// Evaluation asks for no gradient and must get the same loss.
TEST_P(StemMaskTest, WithoutGradientTheLossHasTheSameBits) {
  for_each_simd_level([] {
    Problem p(GetParam());
    p.count_and_loss();
    const auto with_gradient = p.weighted.values();
    p.clear_sums();
    MaskLossArgs args = p.loss_args();
    args.gradient = TensorView();
    mask_loss(test_context(), args);
    EXPECT_EQ(p.weighted.values(), with_gradient);
  });
}

class StemMaskGradientTest : public testing::TestWithParam<StemMaskCase> {};
INSTANTIATE_TEST_SUITE_P(Cases, StemMaskGradientTest,
                         testing::Values(StemMaskCase{"real", 2, 2, 2, 2, 9, 4, false},
                                         StemMaskCase{"complex_per_channel", 2, 2, 2, 2, 9, 4, true,
                                                      false, 0.3},
                                         StemMaskCase{"linear", 2, 1, 2, 2, 9, 9, true, true, 1}),
                         [](const auto& test) { return test.param.name; });

TEST_P(StemMaskGradientTest, OracleGradientIsTheDerivative) {
  StemMaskInput input = Problem(GetParam()).input();
  input.epsilon = 0.5;  // smooth enough for the differences
  const auto gradient = stem_mask_oracle<double>(input).gradient;
  const auto total = [&] {
    const auto out = stem_mask_oracle<double>(input);
    return std::accumulate(out.weighted.begin(), out.weighted.end(), 0.0);
  };
  expect_gradient("prediction", input.prediction, total, gradient);
}

// NaN and infinity in what is absent change no bit.
void check_absent() {
  const StemMaskCase c = {"", 4, 3, 2, 5, 37, 12};
  Problem clean(c);
  Problem spoiled(c);
  const auto absent = [&](int64_t s, int64_t b, int64_t t) {
    return clean.presence.get(b * c.s + s) == 0 || clean.key_mask.get(b * c.t + t) == 0;
  };
  const int64_t per_frame = 2 * c.k;
  for (int64_t i = 0; i < spoiled.target.elements(); ++i) {
    const int64_t frame = i / per_frame;  // (s, b, c, t)
    if (absent(frame / (c.b * c.c * c.t), frame / (c.c * c.t) % c.b, frame % c.t)) {
      spoiled.target.set(i, i % 2 == 0 ? kNaN : kInf);
    }
  }
  for (int64_t i = 0; i < spoiled.mixture.elements(); ++i) {
    const int64_t frame = i / per_frame;  // (b, c, t)
    if (clean.key_mask.get(frame / (c.c * c.t) * c.t + frame % c.t) == 0) {
      spoiled.mixture.set(i, kNaN);
    }
  }
  std::vector<int64_t> absent_outputs;
  for (int64_t i = 0; i < spoiled.prediction.elements(); ++i) {
    const int64_t frame = i / c.outputs();  // (s, b, t)
    if (absent(frame / (c.b * c.t), frame / c.t % c.b, frame % c.t)) {
      spoiled.prediction.set(i, i % 3 == 0 ? kNaN : -kInf);
      absent_outputs.push_back(i);
    }
  }
  ASSERT_FALSE(absent_outputs.empty());
  clean.count_and_loss();
  spoiled.count_and_loss();
  EXPECT_EQ(spoiled.loss.values(), clean.loss.values());
  EXPECT_EQ(spoiled.weighted.values(), clean.weighted.values());
  EXPECT_EQ(spoiled.gradient.values(), clean.gradient.values());
  for (const int64_t i : absent_outputs) {
    EXPECT_EQ(spoiled.gradient.get(i), 0.0);
  }
}

TEST(StemMask, WhatIsAbsentDoesNotLeak) { for_each_simd_level(check_absent); }

// A band's NaN reaches the bins between its neighbours' centres, and through them these neighbours.
void check_present_nan(const StemMaskCase& c, double value) {
  constexpr int64_t kStem = 1;
  constexpr int64_t kBand = 5;
  Problem p(c);
  const int64_t frame = (kStem * c.b + 1) * c.t + 2;
  p.prediction.set(frame * c.outputs() + kBand, value);
  p.count_and_loss();
  expect_non_finite_exactly("loss", p.loss.values(), [](int64_t s) { return s == kStem; });
  expect_non_finite_exactly("gradient", p.gradient.values(), [&](int64_t i) {
    return i / c.outputs() == frame && std::abs(i % c.bands - kBand) <= 1;
  });
}

TEST(StemMask, APresentNanReachesItsStemAndItsNeighboursOnly) {
  for_each_simd_level([] {
    for (const double compression : {1.0, 0.5, 0.3}) {
      check_present_nan({"", 3, 2, 2, 4, 70, 12, true, true, compression, 1, 1, false, false},
                        kNaN);
      check_present_nan({"", 3, 2, 2, 4, 70, 12, true, true, compression, 1, 0, false, false},
                        kInf);
      // A real mask's parts are one.
      check_present_nan({"", 3, 2, 2, 4, 70, 12, false, true, compression, 1, 1, false, false},
                        kNaN);
    }
  });
}

TEST(StemMask, AStemThatIsNowhereHasLossAndGradientZero) {
  const StemMaskCase c = {"", 3, 2, 2, 3, 17, 6};
  Problem p(c);
  for (int64_t b = 0; b < c.b; ++b) {
    for (int64_t s = 0; s < c.s; ++s) {
      p.presence.set(b * c.s + s, s == 1 ? 0 : 1);
    }
  }
  p.count_and_loss();
  EXPECT_EQ(p.count.get(1), 0.0);
  EXPECT_EQ(p.loss.get(1), 0.0);
  EXPECT_EQ(p.weighted.get(1), 0.0);
  EXPECT_GT(p.loss.get(0), 0.0);
  for (int64_t i = 0; i < c.b * c.t * c.outputs(); ++i) {
    EXPECT_EQ(p.gradient.get(c.b * c.t * c.outputs() + i), 0.0);
  }
}

// With a count of 0 (nobody counted) the gradient is 0, not infinite.
TEST(StemMask, WithoutACountNothingIsDivided) {
  Problem p({"", 1, 1, 2, 3, 17, 6});
  mask_loss(test_context(), p.loss_args());
  EXPECT_EQ(p.loss.get(0), 0.0);
  EXPECT_EQ(p.weighted.get(0), 0.0);
  for (const double g : p.gradient.values()) {
    EXPECT_EQ(g, 0.0);
  }
}

// Two micro-batches with one denominator add up to the whole batch.
TEST(StemMask, MicroBatchesShareADenominator) {
  const StemMaskCase c = {"", 2, 4, 2, 3, 33, 10};
  Problem whole(c);
  whole.count_and_loss();
  Problem parts(c);
  for (int64_t half = 0; half < 2; ++half) {
    MaskCountArgs count = parts.count_args();
    count.shape = Shape({2, 2, 2, 3, 33});
    count.presence = count.presence.slice(0, 2 * half, 2);
    count.key_mask = count.key_mask.slice(0, 2 * half, 2);
    mask_count(test_context(), count);
  }
  EXPECT_EQ(parts.count.values(), whole.count.values());
  for (int64_t half = 0; half < 2; ++half) {
    MaskLossArgs part = parts.loss_args();
    part.prediction = part.prediction.slice(1, 2 * half, 2);
    part.target = part.target.slice(1, 2 * half, 2);
    part.gradient = part.gradient.slice(1, 2 * half, 2);
    for (ConstTensorView* view : {&part.mixture, &part.presence, &part.key_mask, &part.weight}) {
      *view = view->slice(0, 2 * half, 2);
    }
    mask_loss(test_context(), part);
  }
  EXPECT_EQ(parts.gradient.values(), whole.gradient.values());
  for (int64_t s = 0; s < 2; ++s) {
    EXPECT_NEAR(parts.weighted.get(s), whole.weighted.get(s), 1e-14);
  }
}

// What the loss compares with the target is what mask_apply writes.
TEST(StemMask, TheLossOfTheEstimateItselfIsZero) {
  for (const bool complex_mask : {false, true}) {
    Problem p({"", 2, 2, 2, 3, 65, 14, complex_mask});
    mask_apply(test_context(), p.apply_args());
    MaskLossArgs args = p.loss_args();
    args.target = as_spectra(std::as_const(p.estimate).view());
    mask_count(test_context(), p.count_args());
    mask_loss(test_context(), args);
    for (int64_t s = 0; s < 2; ++s) {
      EXPECT_LT(p.loss.get(s), 1e-12);
    }
  }
}

// Sizes of magnitudes from far below ε to far beyond what audio has: general exponents stay
// precise.
TEST(StemMask, CompressionIsPreciseForAllMagnitudes) {
  for_each_simd_level([] {
    for (const double compression : {0.1, 0.3, 0.7}) {
      const StemMaskCase c = {"", 1, 1, 1, 1, 400, 400, true, true, compression, 1, 0};
      Problem p(c);
      for (int64_t k = 0; k < c.k; ++k) {
        p.mixture.set(2 * k, std::exp(static_cast<double>(k - 200) / 10));
        p.mixture.set(2 * k + 1, 0);
        p.target.set(2 * k, 0);
        p.target.set(2 * k + 1, 0);
        p.prediction.set(k, 1);
        p.prediction.set(c.k + k, 0);
      }
      p.presence.set(0, 1);
      p.key_mask.set(0, 1);
      p.count_and_loss();
      const auto oracle = stem_mask_oracle<double>(p.input());
      for (int64_t k = 0; k < c.k; ++k) {
        const double want = oracle.gradient[static_cast<std::size_t>(k)];
        // Below ε the difference of two nearly equal powers is rounded at their size.
        const double power = std::pow(0.03, compression);
        EXPECT_NEAR(p.gradient.get(k), want, 16 * 0x1p-24 * (std::abs(want) + power)) << k;
      }
    }
  });
}

}  // namespace
}  // namespace stemfabric::test
