// The attention op against stored float64 results of another implementation.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/attention_goldens.h"
#include "tests/support/attention_run.h"

namespace stemfabric::test {
namespace {

class AttentionGoldenTest : public testing::TestWithParam<std::pair<std::string, std::string>> {
 protected:
  AttentionGolden golden_ = load_attention_golden(GetParam().first, GetParam().second);
};
INSTANTIATE_TEST_SUITE_P(Stored, AttentionGoldenTest, testing::ValuesIn(attention_golden_names()),
                         [](const auto& test) {
                           return test.param.first + "_" + test.param.second;
                         });

TEST_P(AttentionGoldenTest, OutputsAndGradients) {
  AttentionRun run(golden_.problem, golden_.dropout);
  run.run_repeatably();
  expect_attention(run, golden_.problem, golden_.expected);
}

// stats holds m, l, w, g: m/√D + ln l is the log-sum-exp of the scores, w = γ / z2.
TEST_P(AttentionGoldenTest, SavedStatistics) {
  AttentionRun run(golden_.problem, golden_.dropout);
  run.forward(test_context());
  const std::vector<double> stats = run.stats.values();
  const AttentionProblem& p = golden_.problem;
  for (std::size_t row = 0; row < golden_.lse.size(); ++row) {
    const double m = stats[4 * row];
    const double l = stats[4 * row + 1];
    const double w = stats[4 * row + 2];
    if (golden_.z2[row] == 0.0) {  // nothing to attend to
      EXPECT_EQ(m, 0.0);
      EXPECT_EQ(l, kInf);
      EXPECT_EQ(w, 0.0);
      continue;
    }
    // A score is a sum of D rounded products; scores reach 400.
    const double lse = m / std::sqrt(static_cast<double>(p.dim)) + std::log(l);
    EXPECT_NEAR(lse, golden_.lse[row], 1e-6 * (1 + std::abs(golden_.lse[row])));
    const double gamma = p.activation == AttentionActivation::kSoftmax ? 0.0 : p.gamma;
    EXPECT_NEAR(w, gamma / golden_.z2[row], 1e-6 * gamma / golden_.z2[row]);
  }
}

TEST_P(AttentionGoldenTest, KeepBitsAgree) {
  if (golden_.dropout.p > 0) {
    const AttentionProblem& p = golden_.problem;
    EXPECT_EQ(attention_keep_oracle(golden_.dropout, p.batch, p.heads, p.tokens), p.keep);
  }
}

// The oracle itself, in float64, gives the stored numbers.
TEST_P(AttentionGoldenTest, OracleAgrees) {
  const AttentionResult<double> oracle = attention_oracle<double>(golden_.problem);
  const auto compare = [](const std::vector<double>& have, const std::vector<double>& want) {
    double size = 1.0;
    double error = 0.0;
    ASSERT_EQ(have.size(), want.size());
    for (std::size_t i = 0; i < have.size(); ++i) {
      size = std::max(size, std::abs(want[i]));
      error = std::max(error, std::abs(have[i] - want[i]));
    }
    EXPECT_LT(error, 1e-12 * size);
  };
  compare(oracle.o, golden_.expected.o);
  compare(oracle.dq, golden_.expected.dq);
  compare(oracle.dk, golden_.expected.dk);
  compare(oracle.dv, golden_.expected.dv);
}

}  // namespace
}  // namespace stemfabric::test
