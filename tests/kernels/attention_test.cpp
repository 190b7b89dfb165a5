#include "kernels/attention/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <ostream>

#include "kernels/attention/attention_math.h"
#include "tests/oracles/attention_cases.h"
#include "tests/support/attention_run.h"
#include "tests/support/simd_levels.h"

namespace stemfabric::test {
namespace {

DropoutConfig dropout_of(float p) {
  return {p, philox_launch_key(/*seed=*/7, /*step=*/3, /*layer=*/1, /*purpose=*/1),
          /*sample0=*/40};
}

AttentionProblem problem_of(const AttentionCase& c) {
  AttentionProblem p =
      random_attention_problem(c.activation, c.batch, c.tokens, c.heads, c.dim, /*seed=*/5);
  if (c.mask == MaskKind::kPadded) {
    pad_keys(p);
  } else if (c.mask == MaskKind::kScattered) {
    mask_keys_at_random(p, 6, 0.6);
  }
  if (c.dropout > 0) {
    p.keep = attention_keep_oracle(dropout_of(c.dropout), c.batch, c.heads, c.tokens);
    p.keep_scale = 1.0 / (1.0 - dropout_threshold(c.dropout) / 65536.0);
  }
  return p;
}

[[maybe_unused]] void PrintTo(const AttentionCase& c, std::ostream* out) { *out << c.name; }

std::string case_name(const testing::TestParamInfo<AttentionCase>& test) { return test.param.name; }

class AttentionTest : public testing::TestWithParam<AttentionCase> {
 protected:
  AttentionProblem problem_ = problem_of(GetParam());
  Layout layout_ = GetParam().strided ? Layout{.order = {2, 0, 1, 3}, .row_gap = 3} : Layout{};
};
INSTANTIATE_TEST_SUITE_P(Cases, AttentionTest, testing::ValuesIn(attention_test_cases()),
                         case_name);

TEST_P(AttentionTest, FollowsTheFormula) {
  AttentionRun run(problem_, dropout_of(GetParam().dropout), layout_);
  run.run_repeatably();
  expect_attention(run, problem_, attention_oracle<double>(problem_));
}

TEST_P(AttentionTest, InferenceGivesTheBitsOfTraining) {
  AttentionRun run(problem_, dropout_of(GetParam().dropout), layout_);
  run.forward(test_context());
  const std::vector<double> training = run.o.values();
  run.inference(test_context(2));
  EXPECT_EQ(run.o.values(), training);
}

TEST_P(AttentionTest, EverySimdLevel) {
  if (GetParam().tokens > 130) {
    return;  // the smaller cases run through the same code
  }
  const auto expected = attention_oracle<double>(problem_);
  for_each_simd_level([&] {
    AttentionRun run(problem_, dropout_of(GetParam().dropout), layout_);
    run.run();
    expect_attention(run, problem_, expected);
  });
}

class AttentionOracleTest : public testing::TestWithParam<AttentionActivation> {};
INSTANTIATE_TEST_SUITE_P(Activations, AttentionOracleTest, testing::ValuesIn(kAllActivations),
                         [](const auto& test) { return activation_name(test.param); });

TEST_P(AttentionOracleTest, GradientsAreFiniteDifferences) {
  AttentionProblem p = random_attention_problem(GetParam(), 1, 9, 1, 4, 11);
  mask_keys_at_random(p, 12, 0.7);
  const auto loss = [&] {
    const AttentionResult<double> out = attention_oracle<double>(p);
    double sum = 0;
    for (std::size_t i = 0; i < out.o.size(); ++i) {
      sum += out.o[i] * p.d_o[i];
    }
    return sum;
  };
  const AttentionResult<double> analytic = attention_oracle<double>(p);
  expect_gradient("dq", p.q, loss, analytic.dq);
  expect_gradient("dk", p.k, loss, analytic.dk);
  expect_gradient("dv", p.v, loss, analytic.dv);
}

// ---------------------------------------------------------------- invariances

class AttentionInvarianceTest : public testing::TestWithParam<AttentionActivation> {
 protected:
  static constexpr int64_t kTokens = 75;
  static constexpr int64_t kDim = 32;
  AttentionProblem problem_ = random_attention_problem(GetParam(), 1, kTokens, 1, kDim, 21);

  static std::span<double> row(std::vector<double>& x, int64_t t) {
    return std::span(x).subspan(static_cast<std::size_t>(t * kDim), kDim);
  }
};
INSTANTIATE_TEST_SUITE_P(Activations, AttentionInvarianceTest, testing::ValuesIn(kAllActivations),
                         [](const auto& test) { return activation_name(test.param); });

TEST_P(AttentionInvarianceTest, PermutedKeysAndValues) {
  AttentionProblem moved = problem_;
  for (int64_t t = 0; t < kTokens; ++t) {
    const int64_t from = (t * 31 + 7) % kTokens;
    std::ranges::copy(row(problem_.k, from), row(moved.k, t).begin());
    std::ranges::copy(row(problem_.v, from), row(moved.v, t).begin());
  }
  AttentionRun run(moved);
  run.run();
  const AttentionResult<double> oracle = attention_oracle<double>(problem_);
  expect_within_bound("o", run.o.values(), widen(attention_oracle<float>(problem_).o), oracle.o);
  expect_within_bound("dq", run.dq.values(), widen(attention_oracle<float>(problem_).dq),
                      oracle.dq);
}

// A constant added to all keys adds the same to all scores of a row. Hence the gradients of the
// keys sum to zero: the sharpest cheap test of the two row terms of the backward.
TEST_P(AttentionInvarianceTest, ConstantAddedToAllKeys) {
  AttentionProblem moved = problem_;
  for (double& value : moved.k) {
    value = static_cast<float>(value + 0.75);
  }
  AttentionRun run(moved);
  run.run();
  // Rounding the sums k + 0.75 is part of the naive computation's error as well.
  expect_within_bound("o", run.o.values(), widen(attention_oracle<float>(moved).o),
                      attention_oracle<double>(problem_).o);
  const auto key_sum = [](const std::vector<double>& dk) {
    std::vector<double> sum(kDim, 0.0);
    for (std::size_t i = 0; i < dk.size(); ++i) {
      sum[i % kDim] += dk[i];
    }
    return sum;
  };
  double size = 0;
  const std::vector<double> dk = run.dk.values();
  for (double value : dk) {
    size = std::max(size, std::abs(value));
  }
  // 75 gradients, each with a rounding error of a few units of the largest.
  expect_within_bound("sum of dk", key_sum(dk), key_sum(widen(attention_oracle<float>(moved).dk)),
                      std::vector<double>(kDim, 0.0), {.absolute = 8 * 0x1p-24 * size});
}

// O is linear in V: a constant comes out as the row sum of the weights, 1 if normalized.
TEST_P(AttentionInvarianceTest, ConstantValuesGiveTheRowSum) {
  problem_.v.assign(problem_.v.size(), 1.0);
  AttentionRun run(problem_);
  run.inference(test_context());
  const AttentionResult<double> oracle = attention_oracle<double>(problem_);
  expect_within_bound("o", run.o.values(), widen(attention_oracle<float>(problem_).o), oracle.o);
  const double h1 = 0.3 * (2 / (1 + std::exp(-1.0)) - 1) + 0.3 * std::tanh(1.0) + 0.4;
  for (double sum : run.o.values()) {
    switch (GetParam()) {
      case AttentionActivation::kSoftmax:
      case AttentionActivation::kSuperpositionNormalized:
        EXPECT_NEAR(sum, 1.0, 4e-7);
        break;
      case AttentionActivation::kSuperposition:  // n α/2 at least
        EXPECT_GT(sum, 0.15 * kTokens);
        break;
      case AttentionActivation::kSuperpositionCentered:  // between one-hot and diffuse
        EXPECT_GT(sum, h1 - 1e-6);
        EXPECT_LT(sum, 0.3 / 2 + 0.3 + 0.4 + 1e-6);
        break;
    }
  }
}

TEST_P(AttentionInvarianceTest, MaskedKeysAreNeverRead) {
  mask_keys_at_random(problem_, 31, 0.5);
  AttentionRun clean(problem_);
  clean.run();
  for (double huge : {1e30, -3e38, kInf, kNaN}) {
    AttentionProblem spoiled = problem_;
    for (int64_t t = 0; t < kTokens; ++t) {
      if (problem_.key_mask[static_cast<std::size_t>(t)] == 0) {
        std::ranges::fill(row(spoiled.k, t), huge);
        std::ranges::fill(row(spoiled.v, t), huge);
      }
    }
    AttentionRun run(spoiled);
    run.run();
    EXPECT_EQ(run.o.values(), clean.o.values());
    EXPECT_EQ(run.dq.values(), clean.dq.values());
    EXPECT_EQ(run.dk.values(), clean.dk.values());
    EXPECT_EQ(run.dv.values(), clean.dv.values());
  }
  for (int64_t i = 0; i < clean.dk.elements(); ++i) {
    if (problem_.key_mask[static_cast<std::size_t>(i / kDim)] == 0) {
      EXPECT_EQ(clean.dk.get(i), 0.0);
      EXPECT_EQ(clean.dv.get(i), 0.0);
    }
  }
}

TEST_P(AttentionInvarianceTest, NothingToAttendTo) {
  problem_.key_mask.assign(kTokens, 0);
  AttentionRun run(problem_);
  run.run_repeatably();
  for (const GuardedTensor* x : {&run.o, &run.dq, &run.dk, &run.dv}) {
    EXPECT_EQ(x->values(), std::vector<double>(problem_.q.size(), 0.0));
  }
}

// Long runs of masked keys at the start, in the middle and at the end, with and without dropout.
TEST_P(AttentionInvarianceTest, RunsOfMaskedKeys) {
  for (float dropout : {0.0f, 0.25f}) {
    SCOPED_TRACE(dropout);
    AttentionProblem p = random_attention_problem(GetParam(), 2, 200, 2, 20, 33);
    p.key_mask.assign(400, 0);
    for (std::size_t j : {70, 71, 75, 130, 131, 320}) {  // of sample 0 five, of sample 1 one
      p.key_mask[j] = 1;
    }
    if (dropout > 0) {
      p.keep = attention_keep_oracle(dropout_of(dropout), p.batch, p.heads, p.tokens);
      p.keep_scale = 1.0 / (1.0 - dropout_threshold(dropout) / 65536.0);
    }
    AttentionRun run(p, dropout_of(dropout));
    run.run_repeatably();
    expect_attention(run, p, attention_oracle<double>(p));
  }
}

// A NaN in one query spoils that row alone; in a key, every row of its head and no other head.
TEST_P(AttentionInvarianceTest, NaNStaysWhereItBelongs) {
  AttentionProblem p = random_attention_problem(GetParam(), 2, 40, 2, 8, 41);
  const auto spoil = [&](std::vector<double>& x, auto&& spoiled) {
    const double before = std::exchange(x[static_cast<std::size_t>(p.offset(1, 17, 1) + 3)], kNaN);
    AttentionRun run(p);
    run.inference(test_context());
    expect_non_finite_exactly("o", run.o.values(), spoiled);
    x[static_cast<std::size_t>(p.offset(1, 17, 1) + 3)] = before;
  };
  spoil(p.q, [&](int64_t i) { return i / 8 * 8 == p.offset(1, 17, 1); });
  spoil(p.k, [&](int64_t i) { return i >= p.offset(1, 0, 0) && i / 8 % 2 == 1; });
}

// ---------------------------------------------------------------- long sequences

// Query rows to verify: of the others dO is zero, so that the oracle need not compute them.
AttentionProblem long_problem(AttentionActivation activation, int64_t tokens, int64_t dim) {
  AttentionProblem p = random_attention_problem(activation, 1, tokens, 1, dim, 51, 3.0);
  mask_keys_at_random(p, 52, 0.9);
  p.rows = {0, 1, tokens / 2 - 1, tokens / 2, tokens - 9, tokens - 1};
  std::vector<double> d_o(p.d_o.size(), 0.0);
  for (int64_t i : p.rows) {
    std::copy_n(p.d_o.begin() + i * dim, dim, d_o.begin() + i * dim);
  }
  p.d_o = d_o;
  return p;
}

// Sets the rows of o that the oracle leaves at 0 to 0.
void clear_other_rows(const AttentionProblem& p, GuardedTensor& o) {
  for (int64_t i = 0; i < o.elements(); ++i) {
    if (std::ranges::find(p.rows, i / p.dim) == p.rows.end()) {
      o.set(i, 0.0);
    }
  }
}

// On a device the long ones go the way of aligned tensors, as training does.
TEST(AttentionLong, FourThousand) {
  const AlignedTensors aligned;
  const int64_t tokens = ops_are_emulated() ? 2048 : 4096;
  for (AttentionActivation activation :
       {AttentionActivation::kSuperposition, AttentionActivation::kSuperpositionCentered}) {
    SCOPED_TRACE(activation_name(activation));
    const AttentionProblem p = long_problem(activation, tokens, 16);
    AttentionRun run(p);
    run.run(test_context(2));
    clear_other_rows(p, run.o);
    expect_attention(run, p, attention_oracle<double>(p));
  }
}

TEST(AttentionLong, SixteenThousandForward) {
  const AlignedTensors aligned;
  const int64_t tokens = ops_are_emulated() ? 4096 : 16384;
  const AttentionProblem p = long_problem(AttentionActivation::kSuperpositionCentered, tokens, 8);
  AttentionRun run(p);
  run.inference(test_context(2));
  clear_other_rows(p, run.o);
  expect_within_bound("o", run.o.values(), widen(attention_oracle<float>(p).o),
                      attention_oracle<double>(p).o);
}

TEST(AttentionLong, ScratchGrowsLinearly) {
  const auto scratch = [](int64_t tokens) {
    ExecutionContext ctx(ExecutionContext::Options{.threads = 1});
    const AttentionProblem p =
        random_attention_problem(AttentionActivation::kSuperpositionCentered, 1, tokens, 1, 4, 61);
    AttentionRun run(p);
    run.run(ctx);
    return static_cast<double>(ctx.workspace().capacity());
  };
  EXPECT_LT(scratch(4096), 4.5 * scratch(1024));
}

// ---------------------------------------------------------------- dropout

TEST(AttentionDropout, BitsDoNotDependOnHowTheBatchIsCut) {
  const DropoutConfig dropout = dropout_of(0.25f);
  AttentionProblem p =
      random_attention_problem(AttentionActivation::kSuperpositionCentered, 3, 45, 2, 16, 71);
  mask_keys_at_random(p, 72, 0.8);
  AttentionRun whole(p, dropout);
  whole.run();
  const auto size = static_cast<std::size_t>(45 * 2 * 16);
  for (std::size_t b = 0; b < 3; ++b) {
    const auto entry = [&](std::vector<double>& x) {
      x = std::vector<double>(x.begin() + static_cast<std::ptrdiff_t>(b * size),
                              x.begin() + static_cast<std::ptrdiff_t>((b + 1) * size));
    };
    AttentionProblem part = p;
    part.batch = 1;
    entry(part.q);
    entry(part.k);
    entry(part.v);
    entry(part.d_o);
    part.key_mask.assign(p.key_mask.begin() + static_cast<std::ptrdiff_t>(b * 45),
                         p.key_mask.begin() + static_cast<std::ptrdiff_t>((b + 1) * 45));
    DropoutConfig part_dropout = dropout;
    part_dropout.sample0 += static_cast<int64_t>(b);
    AttentionRun run(part, part_dropout);
    run.run();
    const auto expect_same = [&](const GuardedTensor& have, const GuardedTensor& want) {
      std::vector<double> expected = want.values();
      entry(expected);
      EXPECT_EQ(have.values(), expected);
    };
    expect_same(run.o, whole.o);
    expect_same(run.dq, whole.dq);
    expect_same(run.dk, whole.dk);
    expect_same(run.dv, whole.dv);
  }
}

// ---------------------------------------------------------------- polynomials

// The errors that docs/attention.md states for the fits, value and slope, relative to a and to the
// slope.
TEST(AttentionPolynomials, ValueAndSlopeAreFloat32Exact) {
  const auto check = [](const double(&c)[kAttentionDegree], auto&& f, auto&& slope) {
    double value_error = 0;
    double slope_error = 0;
    for (int i = 1; i <= 1000; ++i) {
      const double a = i / 1000.0;
      double p = 0;
      double dp = 0;
      for (int r = kAttentionDegree - 1; r >= 0; --r) {
        dp = dp * a + (r + 1) * c[r];
        p = (p + c[r]) * a;
      }
      value_error = std::max(value_error, std::abs(p - f(a)) / a);
      slope_error = std::max(slope_error, std::abs(dp / slope(a) - 1));
    }
    EXPECT_LT(value_error, 1.0e-7);
    EXPECT_LT(slope_error, 2.3e-7);
  };
  const auto sigmoid = [](double a) { return 1 / (1 + std::exp(-a)); };
  check(
      kSigmoidMinusHalf, [&](double a) { return sigmoid(a) - 0.5; },
      [&](double a) { return sigmoid(a) * (1 - sigmoid(a)); });
  check(
      kTanh, [](double a) { return std::tanh(a); },
      [](double a) { return 1 - std::tanh(a) * std::tanh(a); });
  check(
      kExpMinusOne, [](double a) { return std::expm1(a); }, [](double a) { return std::exp(a); });
}

// ---------------------------------------------------------------- contract

class AttentionContractTest : public testing::Test {
 protected:
  static GuardedTensor rows(int64_t dim = 8) { return GuardedTensor::random({2, 5, 3, dim}, 81); }
  GuardedTensor q_ = rows(), k_ = rows(), v_ = rows(), o_ = rows();
  AttentionForwardArgs args_ = {.q = q_.view(), .k = k_.view(), .v = v_.view(), .o = o_.view()};

  void refuses(const std::vector<std::string>& parts) {
    expect_contract_error(parts, [&] { attention_forward(test_context(), args_); });
  }
};

TEST_F(AttentionContractTest, OtherShapes) {
  const GuardedTensor narrow = rows(7);
  args_.k = narrow.view();
  refuses({"attention_forward", "k ", "[2, 5, 3, 7]", "[2, 5, 3, 8]"});
}

TEST_F(AttentionContractTest, MissingTensors) {
  args_.v = {};
  refuses({"attention_forward", "v is missing"});
}

TEST_F(AttentionContractTest, AllSavedRowsOrNone) {
  args_.o2 = o_.view();
  refuses({"attention_forward", "u is missing"});
}

TEST_F(AttentionContractTest, MaskOfAnotherType) {
  const GuardedTensor mask({2, 5}, DType::kF32);
  args_.key_mask = mask.view();
  refuses({"attention_forward", "key_mask", "f32", "u8"});
}

TEST_F(AttentionContractTest, DimensionTooLarge) {
  GuardedTensor wide = rows(129);
  args_.q = args_.k = args_.v = wide.view();
  refuses({"attention_forward", "head dimension 129", "128"});
}

TEST_F(AttentionContractTest, DropsEverything) {
  args_.dropout.p = 1.0f;
  refuses({"attention_forward", "dropout", "[0, 1)"});
  args_.dropout.p = 0.999999f;
  refuses({"attention_forward", "drop everything"});
}

TEST_F(AttentionContractTest, CoefficientsMustBeFinite) {
  args_.config.gamma = static_cast<float>(kNaN);
  refuses({"attention_forward", "coefficients", "nan"});
}

TEST_F(AttentionContractTest, EmptyBatch) {
  GuardedTensor none({0, 5, 3, 8}, DType::kF32);
  args_.q = args_.k = args_.v = none.view();
  args_.o = none.view();
  attention_forward(test_context(), args_);
}

}  // namespace
}  // namespace stemfabric::test
