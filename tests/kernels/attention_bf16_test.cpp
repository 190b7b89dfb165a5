// The attention op in bfloat16: the same cases and invariances as in float32 (attention_test.cpp),
// from inputs that are bfloat16 numbers.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <ostream>
#include <span>
#include <utility>

#include "kernels/attention/attention.h"
#include "kernels/attention/attention_math.h"
#include "tests/oracles/attention_cases.h"
#include "tests/support/attention_goldens.h"
#include "tests/support/attention_run.h"
#include "tests/support/simd_levels.h"

namespace stemfabric::test {
namespace {

DropoutConfig dropout_of(float p) {
  return {p, philox_launch_key(/*seed=*/7, /*step=*/3, /*layer=*/1, /*purpose=*/1),
          /*sample0=*/40};
}

void drop(AttentionProblem& p, float probability) {
  if (probability > 0) {
    p.keep = attention_keep_oracle(dropout_of(probability), p.batch, p.heads, p.tokens);
    p.keep_scale = 1.0 / (1.0 - dropout_threshold(probability) / 65536.0);
  }
}

AttentionProblem problem_of(const AttentionCase& c) {
  AttentionProblem p =
      random_attention_problem(c.activation, c.batch, c.tokens, c.heads, c.dim, /*seed=*/5);
  if (c.mask == MaskKind::kPadded) {
    pad_keys(p);
  } else if (c.mask == MaskKind::kScattered) {
    mask_keys_at_random(p, 6, 0.6);
  }
  drop(p, c.dropout);
  return rounded_to_bf16(p);
}

[[maybe_unused]] void PrintTo(const AttentionCase& c, std::ostream* out) { *out << c.name; }

class AttentionBf16Test : public testing::TestWithParam<AttentionCase> {
 protected:
  AttentionProblem problem_ = problem_of(GetParam());
  Layout layout_ = GetParam().strided ? Layout{.order = {2, 0, 1, 3}, .row_gap = 3} : Layout{};

  AttentionRun run_of() const {
    return AttentionRun(problem_, dropout_of(GetParam().dropout), layout_, DType::kBF16);
  }
};
INSTANTIATE_TEST_SUITE_P(Cases, AttentionBf16Test, testing::ValuesIn(attention_bf16_test_cases()),
                         [](const auto& test) { return test.param.name; });

TEST_P(AttentionBf16Test, FollowsTheFormula) {
  AttentionRun run = run_of();
  if (GetParam().tokens <= 100) {
    run.run_repeatably();
  } else {
    run.run();
  }
  expect_attention(run, problem_, attention_oracle<double>(problem_));
}

TEST_P(AttentionBf16Test, InferenceGivesTheBitsOfTraining) {
  AttentionRun run = run_of();
  run.forward(test_context());
  const std::vector<double> training = run.o.values();
  run.inference(test_context(2));
  EXPECT_EQ(run.o.values(), training);
}

// On a device: rows that are copied 16 bytes at a time and rows that are not.
TEST_P(AttentionBf16Test, EverySimdLevel) {
  if (GetParam().tokens > 100) {
    return;  // the smaller cases run through the same code
  }
  const auto expected = attention_oracle<double>(problem_);
  for_each_simd_level([&] {
    AttentionRun run = run_of();
    run.run();
    expect_attention(run, problem_, expected);
  });
}

// Softmax by cuDNN where it is installed; our calls of it are tested on a stand-in
// (tests/cuda_runtime).
TEST(AttentionCudnn, FollowsTheFormula) {
  if (test_context().is_cpu() || ops_are_emulated()) {
    GTEST_SKIP() << "no GPU: cuDNN computes on one only";
  }
  int by_cudnn = 0;
  std::vector<AttentionCase> cases = attention_bf16_test_cases();
  // Whose gradients all versions of the library compute.
  cases.push_back({.name = "t128_d16_softmax",
                   .activation = AttentionActivation::kSoftmax,
                   .batch = 2,
                   .tokens = 128,
                   .heads = 2,
                   .dim = 16,
                   .mask = MaskKind::kPadded});
  for (const AttentionCase& c : cases) {
    if (c.activation != AttentionActivation::kSoftmax || c.dropout > 0) {
      continue;
    }
    const AttentionProblem p = problem_of(c);
    for_each_simd_level([&] {
      const testing::ScopedTrace trace(__FILE__, __LINE__, c.name);
      AttentionRun run(p, {}, {}, DType::kBF16);
      run.use_cudnn();
      run.run_repeatably();
      expect_attention(run, p, attention_oracle<double>(p));
      by_cudnn += std::isnan(run.o2.get(0)) ? 1 : 0;  // which leaves it as it was
    });
  }
  if (by_cudnn == 0) {
    GTEST_SKIP() << "cuDNN computed nothing: the log says why";
  }
}

// ---------------------------------------------------------------- stored cases

class AttentionBf16GoldenTest : public testing::TestWithParam<std::pair<std::string, std::string>> {
};
INSTANTIATE_TEST_SUITE_P(Stored, AttentionBf16GoldenTest,
                         testing::ValuesIn(attention_golden_names()), [](const auto& test) {
                           return test.param.first + "_" + test.param.second;
                         });

// The stored results are of inputs that bf16 does not hold; the oracle, which agrees with them
// (attention_golden_test.cpp), gives those of the rounded inputs.
TEST_P(AttentionBf16GoldenTest, OutputsAndGradients) {
  const AttentionGolden golden = load_attention_golden(GetParam().first, GetParam().second);
  const AttentionProblem p = rounded_to_bf16(golden.problem);
  AttentionRun run(p, golden.dropout, {}, DType::kBF16);
  run.run_repeatably();
  expect_attention(run, p, attention_oracle<double>(p));
}

// ---------------------------------------------------------------- invariances

class AttentionBf16InvarianceTest : public testing::TestWithParam<AttentionActivation> {
 protected:
  static constexpr int64_t kTokens = 75;
  static constexpr int64_t kDim = 32;
  AttentionProblem problem_ =
      rounded_to_bf16(random_attention_problem(GetParam(), 1, kTokens, 1, kDim, 21));

  static AttentionRun run_of(const AttentionProblem& p) {
    return AttentionRun(p, {}, {}, DType::kBF16);
  }
  static std::span<double> row(std::vector<double>& x, int64_t t) {
    return std::span(x).subspan(static_cast<std::size_t>(t * kDim), kDim);
  }
};
INSTANTIATE_TEST_SUITE_P(Activations, AttentionBf16InvarianceTest,
                         testing::ValuesIn(kAllActivations),
                         [](const auto& test) { return activation_name(test.param); });

TEST_P(AttentionBf16InvarianceTest, PermutedKeysAndValues) {
  AttentionProblem moved = problem_;
  for (int64_t t = 0; t < kTokens; ++t) {
    const int64_t from = (t * 31 + 7) % kTokens;
    std::ranges::copy(row(problem_.k, from), row(moved.k, t).begin());
    std::ranges::copy(row(problem_.v, from), row(moved.v, t).begin());
  }
  AttentionRun run = run_of(moved);
  run.run();
  const AttentionResult<double> oracle = attention_oracle<double>(problem_);
  const AttentionResult<float> naive = attention_naive_bf16(problem_);
  expect_within_bound("o", run.o.values(), widen(naive.o), oracle.o);
  expect_within_bound("dq", run.dq.values(), widen(naive.dq), oracle.dq);
}

// Σ_j dK_j = 0. That takes row terms of the backward that fit its weights, whatever was rounded on
// the way. What is left: the roundings of dS to bf16, at most 2^-8 of each, times Q.
TEST_P(AttentionBf16InvarianceTest, GradientsOfKeysSumToZero) {
  AttentionRun run = run_of(problem_);
  run.run();
  const auto key_sum = [](const std::vector<double>& dk) {
    std::vector<double> sum(kDim, 0.0);
    for (std::size_t i = 0; i < dk.size(); ++i) {
      sum[i % kDim] += dk[i];
    }
    return sum;
  };
  expect_within_bound("sum of dk", key_sum(run.dk.values()),
                      key_sum(widen(attention_naive_bf16(problem_).dk)),
                      std::vector<double>(kDim, 0.0));
}

// O is linear in V: a constant comes out as the row sum of the weights.
TEST_P(AttentionBf16InvarianceTest, ConstantValuesGiveTheRowSum) {
  problem_.v.assign(problem_.v.size(), 1.0);
  AttentionRun run = run_of(problem_);
  run.inference(test_context());
  const AttentionResult<double> oracle = attention_oracle<double>(problem_);
  expect_within_bound("o", run.o.values(), widen(attention_naive_bf16(problem_).o), oracle.o);
  if (GetParam() == AttentionActivation::kSoftmax ||
      GetParam() == AttentionActivation::kSuperpositionNormalized) {
    EXPECT_EQ(run.o.values(), std::vector<double>(problem_.q.size(), 1.0));
  }
}

TEST_P(AttentionBf16InvarianceTest, MaskedKeysAreNeverRead) {
  mask_keys_at_random(problem_, 31, 0.5);
  for (const int first : {1, 0}) {  // rows that are copied in pieces, and whole
    set_first_element(first);
    AttentionRun clean = run_of(problem_);
    clean.run();
    for (double huge : {1e30, -3e38, kInf, kNaN}) {
      AttentionProblem spoiled = problem_;
      for (int64_t t = 0; t < kTokens; ++t) {
        if (problem_.key_mask[static_cast<std::size_t>(t)] == 0) {
          std::ranges::fill(row(spoiled.k, t), huge);
          std::ranges::fill(row(spoiled.v, t), huge);
        }
      }
      AttentionRun run = run_of(spoiled);
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
  set_first_element(1);
}

TEST_P(AttentionBf16InvarianceTest, NothingToAttendTo) {
  problem_.key_mask.assign(kTokens, 0);
  AttentionRun run = run_of(problem_);
  run.run_repeatably();
  for (const GuardedTensor* x : {&run.o, &run.o2, &run.u, &run.dq, &run.dk, &run.dv}) {
    EXPECT_EQ(x->values(), std::vector<double>(problem_.q.size(), 0.0));
  }
}

// Long runs of masked keys at the start, in the middle and at the end, with and without dropout.
TEST_P(AttentionBf16InvarianceTest, RunsOfMaskedKeys) {
  for (float dropout : {0.0f, 0.25f}) {
    SCOPED_TRACE(dropout);
    AttentionProblem p = random_attention_problem(GetParam(), 2, 200, 2, 20, 33);
    p.key_mask.assign(400, 0);
    for (std::size_t j : {70, 71, 75, 130, 131, 320}) {  // of sample 0 five, of sample 1 one
      p.key_mask[j] = 1;
    }
    drop(p, dropout);
    p = rounded_to_bf16(p);
    AttentionRun run(p, dropout_of(dropout), {}, DType::kBF16);
    run.run();
    expect_attention(run, p, attention_oracle<double>(p));
  }
}

// A NaN in one query spoils that row alone; in a key, every row of its head and no other head.
TEST_P(AttentionBf16InvarianceTest, NaNStaysWhereItBelongs) {
  AttentionProblem p = rounded_to_bf16(random_attention_problem(GetParam(), 2, 40, 2, 8, 41));
  const auto spoil = [&](std::vector<double>& x, auto&& spoiled) {
    const double before = std::exchange(x[static_cast<std::size_t>(p.offset(1, 17, 1) + 3)], kNaN);
    AttentionRun run = run_of(p);
    run.inference(test_context());
    expect_non_finite_exactly("o", run.o.values(), spoiled);
    x[static_cast<std::size_t>(p.offset(1, 17, 1) + 3)] = before;
  };
  spoil(p.q, [&](int64_t i) { return i / 8 * 8 == p.offset(1, 17, 1); });
  spoil(p.k, [&](int64_t i) { return i >= p.offset(1, 0, 0) && i / 8 % 2 == 1; });
}

// ---------------------------------------------------------------- other sizes

// Scores that grow along the keys: the reference of a row moves again and again.
TEST(AttentionBf16, LargestScoreComesLast) {
  const AlignedTensors aligned;
  AttentionProblem p =
      random_attention_problem(AttentionActivation::kSuperpositionCentered, 1, 160, 1, 16, 91);
  for (int64_t t = 0; t < p.tokens; ++t) {
    for (int64_t e = 0; e < p.dim; ++e) {
      const auto i = static_cast<std::size_t>(p.offset(0, t, 0) + e);
      p.q[i] = 1.0 + p.q[i] / 8;
      p.k[i] = static_cast<double>(t) / 8 + p.k[i] / 8;
    }
  }
  p = rounded_to_bf16(p);
  AttentionRun run(p, {}, {}, DType::kBF16);
  run.run();
  expect_attention(run, p, attention_oracle<double>(p));
}

TEST(AttentionBf16, FiveHundredTokens) {
  const AlignedTensors aligned;
  AttentionProblem p =
      random_attention_problem(AttentionActivation::kSuperposition, 1, 500, 1, 16, 51, 3.0);
  mask_keys_at_random(p, 52, 0.9);
  p.rows = {0, 1, 249, 250, 491, 499};  // to verify; of the others dO is 0
  std::vector<double> d_o(p.d_o.size(), 0.0);
  for (int64_t i : p.rows) {
    std::copy_n(p.d_o.begin() + i * p.dim, p.dim, d_o.begin() + i * p.dim);
  }
  p.d_o = d_o;
  p = rounded_to_bf16(p);
  AttentionRun run(p, {}, {}, DType::kBF16);
  run.run();
  for (int64_t i = 0; i < run.o.elements(); ++i) {
    if (std::ranges::find(p.rows, i / p.dim) == p.rows.end()) {
      run.o.set(i, 0.0);
    }
  }
  expect_attention(run, p, attention_oracle<double>(p));
}

// ---------------------------------------------------------------- saved rows, polynomials,
// contract

// m and l are of the scores, whatever the row's reference was: m/√D + ln l = ln Σ exp(score).
TEST(AttentionBf16, SavedStatistics) {
  AttentionProblem p = rounded_to_bf16(
      random_attention_problem(AttentionActivation::kSuperpositionCentered, 1, 70, 2, 24, 61));
  AttentionRun run(p, {}, {}, DType::kBF16);
  run.forward(test_context());
  for (int64_t h = 0; h < p.heads; ++h) {
    for (int64_t i = 0; i < p.tokens; ++i) {
      double top = -kInf;
      std::vector<double> scores;
      for (int64_t j = 0; j < p.tokens; ++j) {
        double score = 0;
        for (int64_t e = 0; e < p.dim; ++e) {
          score += p.q[static_cast<std::size_t>(p.offset(0, i, h) + e)] *
                   p.k[static_cast<std::size_t>(p.offset(0, j, h) + e)];
        }
        top = std::max(top, score);
        scores.push_back(score);
      }
      double l = 0;
      for (const double score : scores) {
        l += std::exp((score - top) / std::sqrt(static_cast<double>(p.dim)));
      }
      double z2 = 0;
      for (const double score : scores) {
        z2 += std::exp(std::exp((score - top) / std::sqrt(static_cast<double>(p.dim))) / l);
      }
      const int64_t at = (h * p.tokens + i) * 4;
      EXPECT_NEAR(run.stats.get(at), top, 1e-5 * std::abs(top));
      EXPECT_NEAR(run.stats.get(at + 1), l, 0x1p-8 * l);  // each term rounded to bf16 at most
      EXPECT_NEAR(run.stats.get(at + 2), p.gamma / z2, 6e-4 * p.gamma / z2);
      EXPECT_EQ(run.stats.get(at + 3), 1.0);
    }
  }
}

// The errors of the fits of degree 4 that docs/attention.md states.
TEST(AttentionBf16, PolynomialsOfDegreeFour) {
  const MomentCoefficients c = moment_coefficients({});
  double h_error = 0, h_slope_error = 0, e_error = 0;
  for (int i = 1; i <= 1000; ++i) {
    const double a = i / 1000.0;
    double h = 0, h_slope = 0, x = 0;
    for (int r = kMomentDegree - 1; r >= 0; --r) {
      h_slope = h_slope * a + (r + 1) * double{c.h[r]};
      h = (h + c.h[r]) * a;
      x = (x + c.x[r]) * a;
    }
    const double sigmoid = 1 / (1 + std::exp(-a));
    const double tanh = std::tanh(a);
    const double slope = 0.6 * sigmoid * (1 - sigmoid) + 0.3 * (1 - tanh * tanh);
    h_error = std::max(h_error, std::abs(h / (0.6 * (sigmoid - 0.5) + 0.3 * tanh) - 1));
    h_slope_error = std::max(h_slope_error, std::abs(h_slope / slope - 1));
    e_error = std::max(e_error, std::abs(x / std::expm1(a) - 1));
  }
  EXPECT_LT(h_error, 5.5e-4);
  EXPECT_LT(h_slope_error, 1.01e-3);
  EXPECT_LT(e_error, 5.5e-4);
}

TEST(AttentionBf16, OneTypeForAllButTheSavedSums) {
  AttentionProblem p = random_attention_problem(AttentionActivation::kSoftmax, 1, 5, 1, 8, 71);
  AttentionRun wide(p);
  AttentionRun narrow(p, {}, {}, DType::kBF16);
  AttentionForwardArgs args;
  args.q = narrow.q.view();
  args.k = wide.k.view();
  args.v = narrow.v.view();
  args.o = narrow.o.view();
  expect_contract_error({"attention_forward", "k", "f32", "bf16"},
                        [&] { attention_forward(test_context(), args); });
  args.k = narrow.k.view();
  args.o2 = narrow.o2.view();
  args.u = narrow.dq.view();
  args.stats = narrow.stats.view();
  expect_contract_error({"attention_forward", "u", "bf16", "f32"},
                        [&] { attention_forward(test_context(), args); });
}

}  // namespace
}  // namespace stemfabric::test
