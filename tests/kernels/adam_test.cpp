#include "kernels/adam/adam.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/oracles/adam_cases.h"
#include "tests/oracles/adam_oracle.h"
#include "tests/support/op_harness.h"
#include "tests/support/simd_levels.h"

namespace stemfabric::test {
namespace {

class AdamTest : public testing::TestWithParam<AdamCase> {};
INSTANTIATE_TEST_SUITE_P(Cases, AdamTest, testing::ValuesIn(adam_test_cases()),
                         [](const auto& test) { return test.param.name; });

void check_five_steps(const AdamCase& c) {
  GuardedTensor w = GuardedTensor::random({c.n}, 1);
  GuardedTensor m = GuardedTensor::filled({c.n}, DType::kF32, 0);
  GuardedTensor v = GuardedTensor::filled({c.n}, DType::kF32, 0);
  AdamState<double> oracle = {w.values(), m.values(), v.values()};
  AdamState<float> naive;
  naive.parameter.assign(oracle.parameter.begin(), oracle.parameter.end());
  naive.m.assign(oracle.m.begin(), oracle.m.end());
  naive.v.assign(oracle.v.begin(), oracle.v.end());
  for (int64_t step = 1; step <= 5; ++step) {
    const GuardedTensor g = GuardedTensor::random({c.n}, 10 + static_cast<uint64_t>(step));
    const AdamArgs args = {.parameter = w.view(),
                           .m = m.view(),
                           .v = v.view(),
                           .gradient = g.view(),
                           .step = step,
                           .weight_decay = c.weight_decay,
                           .decoupled = c.decoupled,
                           .form = c.form,
                           .grad_scale = c.grad_scale};
    run_repeatably({&w, &m, &v}, [&](const ExecutionContext& ctx) { adam_step(ctx, args); });
    adam_oracle(oracle, g.values(), args);
    adam_oracle(naive, g.values(), args);
  }
  expect_within_bound("parameter", w.values(), widen(naive.parameter), oracle.parameter);
  expect_within_bound("m", m.values(), widen(naive.m), oracle.m);
  expect_within_bound("v", v.values(), widen(naive.v), oracle.v);
}

TEST_P(AdamTest, FiveStepsFollowTheFormula) {
  for_each_simd_level([] { check_five_steps(GetParam()); });
}

// The size of the first step is lr in both forms, whatever the gradient's size.
TEST(Adam, FirstStepIsTheLearningRate) {
  for (AdamForm form : {AdamForm::kTorch, AdamForm::kKeras}) {
    GuardedTensor w = GuardedTensor::filled({3}, DType::kF32, 0);
    GuardedTensor m = GuardedTensor::filled({3}, DType::kF32, 0);
    GuardedTensor v = GuardedTensor::filled({3}, DType::kF32, 0);
    GuardedTensor g({3}, DType::kF32);
    g.assign(std::vector<double>{100.0, -1.0, 0.0});
    adam_step(test_context(), {.parameter = w.view(),
                               .m = m.view(),
                               .v = v.view(),
                               .gradient = g.view(),
                               .lr = 0.01,
                               .form = form});
    EXPECT_NEAR(w.get(0), -0.01, 1e-7);
    EXPECT_NEAR(w.get(1), 0.01, 1e-7);
    EXPECT_EQ(w.get(2), 0.0);
  }
}

// With ε of the size of √v the two forms part: torch compares ε with the corrected root.
TEST(Adam, FormsDifferInWhatEpsilonIsComparedWith) {
  double step[2];
  for (AdamForm form : {AdamForm::kTorch, AdamForm::kKeras}) {
    GuardedTensor w = GuardedTensor::filled({1}, DType::kF32, 0);
    GuardedTensor m = GuardedTensor::filled({1}, DType::kF32, 0);
    GuardedTensor v = GuardedTensor::filled({1}, DType::kF32, 0);
    const GuardedTensor g = GuardedTensor::filled({1}, DType::kF32, 0.01);
    adam_step(test_context(), {.parameter = w.view(),
                               .m = m.view(),
                               .v = v.view(),
                               .gradient = g.view(),
                               .lr = 1,
                               .epsilon = 0.01,
                               .form = form});
    step[form == AdamForm::kKeras] = w.get(0);
  }
  EXPECT_NEAR(step[0], -0.5, 1e-6);
  EXPECT_NEAR(step[1], -std::sqrt(0.001) / 0.1 * 0.001 / (std::sqrt(0.001) * 0.01 + 0.01), 1e-6);
}

TEST(Adam, ANanGradientSpoilsItsOwnElementOnly) {
  const int64_t n = 50;
  GuardedTensor w = GuardedTensor::random({n}, 1);
  GuardedTensor m = GuardedTensor::filled({n}, DType::kF32, 0);
  GuardedTensor v = GuardedTensor::filled({n}, DType::kF32, 0);
  GuardedTensor g = GuardedTensor::random({n}, 2);
  g.set(7, kNaN);
  g.set(49, kInf);
  adam_step(test_context(),
            {.parameter = w.view(), .m = m.view(), .v = v.view(), .gradient = g.view()});
  expect_non_finite_exactly("parameter", w.values(), [](int64_t i) { return i == 7 || i == 49; });
}

TEST(Adam, EmaFollowsTheFormulaAndSettlesOnTheParameter) {
  for (int64_t n : {1, 15, 256, 20001}) {
    GuardedTensor average = GuardedTensor::random({n}, 1);
    const GuardedTensor parameter = GuardedTensor::random({n}, 2);
    const auto start = average.values();
    run_repeatably({&average}, [&](const ExecutionContext& ctx) {
      ema_update(ctx, {.average = average.view(), .parameter = parameter.view()});
    });
    expect_within_bound("average", average.values(),
                        widen(ema_oracle<float>(start, parameter.values(), 0.999)),
                        ema_oracle<double>(start, parameter.values(), 0.999));
  }
  GuardedTensor settled = GuardedTensor::random({64}, 3);
  const GuardedTensor same = GuardedTensor::random({64}, 3);
  for (int i = 0; i < 1000; ++i) {
    ema_update(test_context(), {.average = settled.view(), .parameter = same.view()});
  }
  EXPECT_EQ(settled.values(), same.values());
}

TEST(Adam, RefusesImpossibleSettings) {
  GuardedTensor w({4}, DType::kF32), m({4}, DType::kF32), v({4}, DType::kF32), g({4}, DType::kF32);
  AdamArgs args = {.parameter = w.view(), .m = m.view(), .v = v.view(), .gradient = g.view()};
  args.step = 0;
  expect_contract_error({"adam_step", "step is 0"}, [&] { adam_step(test_context(), args); });
  args.step = 1;
  args.beta2 = 1.0;
  expect_contract_error({"adam_step", "beta2 is 1"}, [&] { adam_step(test_context(), args); });
}

}  // namespace
}  // namespace stemfabric::test
