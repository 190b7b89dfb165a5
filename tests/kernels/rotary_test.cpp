#include "kernels/rotary/rotary.h"

#include <gtest/gtest.h>

#include "tests/oracles/rotary_oracle.h"
#include "tests/support/op_harness.h"
#include "tests/support/simd_levels.h"

namespace stemfabric::test {
namespace {

struct RotaryCase {
  std::string name;
  int64_t batch, tokens, heads, dim;
  double base = 10000;
  Layout layout = {};
  bool large = false;  // once is enough where threads are emulated
};

class RotaryTest : public testing::TestWithParam<RotaryCase> {};
INSTANTIATE_TEST_SUITE_P(
    Cases, RotaryTest,
    testing::Values(RotaryCase{"one", 1, 1, 1, 2}, RotaryCase{"odd", 2, 9, 3, 14},
                    RotaryCase{"six_pairs", 2, 9, 2, 12}, RotaryCase{"nine_rows", 3, 7, 3, 24},
                    RotaryCase{"snapshots", 3, 25, 4, 32},
                    RotaryCase{"strided", 2, 33, 2, 8, 500, {.order = {1, 2, 0, 3}, .row_gap = 5}},
                    RotaryCase{"strided_by_4", 2, 9, 5, 8, 500, {{1, 2, 0, 3}, 4}},
                    RotaryCase{"long", 1, 16384, 1, 10, 10000, {}, true}),
    [](const auto& test) { return test.param.name; });

bool only_once(const RotaryCase& c) { return c.large && ops_are_emulated(); }

void check_formula(const RotaryCase& c) {
  GuardedTensor x = GuardedTensor::random({c.batch, c.tokens, c.heads, c.dim}, 1, -1, 1, c.layout);
  const std::vector<double> before = x.values();
  for (bool inverse : {false, true}) {
    x.assign(before);
    const auto op = [&](const ExecutionContext& ctx) {
      rotary(ctx, {.x = x.view(), .base = c.base, .inverse = inverse});
    };
    if (only_once(c)) {
      op(test_context());
    } else {
      run_repeatably({&x}, op);
    }
    const std::vector<double> oracle =
        rotary_oracle(before, c.batch, c.tokens, c.heads, c.dim, c.base, inverse);
    // Naive float32 angles are far off at large t, so the bound is the rounding floor alone:
    // cosine, sine, product and sum each round once.
    expect_within_bound("x", x.values(), oracle, oracle, {.ulps = 4});
  }
}

TEST_P(RotaryTest, FollowsTheFormula) {
  for_each_simd_level([] { check_formula(GetParam()); });
}

TEST_P(RotaryTest, InverseTurnsBack) {
  const RotaryCase& c = GetParam();
  GuardedTensor x = GuardedTensor::random({c.batch, c.tokens, c.heads, c.dim}, 2, -1, 1, c.layout);
  const std::vector<double> before = x.values();
  rotary(test_context(), {.x = x.view(), .base = c.base});
  rotary(test_context(), {.x = x.view(), .base = c.base, .inverse = true});
  expect_within_bound("x", x.values(), before, before, {.ulps = 8});
}

// What the embedding is for: the product of a turned query and key depends on their distance only.
TEST(Rotary, ScoresDependOnTheDistance) {
  constexpr int64_t kTokens = 40;
  constexpr int64_t kDim = 16;
  const std::vector<double> q = GuardedTensor::random({kDim}, 3).values();
  const std::vector<double> k = GuardedTensor::random({kDim}, 4).values();
  const auto turned = [&](const std::vector<double>& row) {
    GuardedTensor x({1, kTokens, 1, kDim}, DType::kF32);
    for (int64_t i = 0; i < x.elements(); ++i) {
      x.set(i, row[static_cast<std::size_t>(i % kDim)]);
    }
    rotary(test_context(), {.x = x.view()});
    return x.values();
  };
  const std::vector<double> queries = turned(q);
  const std::vector<double> keys = turned(k);
  const auto score = [&](int64_t i, int64_t j) {
    double sum = 0;
    for (int64_t e = 0; e < kDim; ++e) {
      sum += queries[static_cast<std::size_t>(i * kDim + e)] *
             keys[static_cast<std::size_t>(j * kDim + e)];
    }
    return sum;
  };
  for (int64_t shift = 1; shift < 30; ++shift) {
    EXPECT_NEAR(score(7 + shift, shift), score(7, 0), 1e-5);
  }
  EXPECT_GT(std::abs(score(7, 0) - score(5, 0)), 1e-2);
}

TEST(Rotary, RefusesOddDimensions) {
  GuardedTensor x = GuardedTensor::random({1, 2, 1, 3}, 1);
  expect_contract_error({"rotary", "last dimension", "3"},
                        [&] { rotary(test_context(), {.x = x.view()}); });
}

}  // namespace
}  // namespace stemfabric::test
