// The attention op against stored float64 results of another implementation.
#include <gtest/gtest.h>

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
