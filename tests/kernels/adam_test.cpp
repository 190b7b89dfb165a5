#include "kernels/adam/adam.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <vector>

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

// Parameter, gradient and moments that lie differently with respect to what a vector needs.
TEST(Adam, ArraysMayLieDifferently) {
  constexpr int64_t kElements = 3000;
  const auto step = [&](const std::array<int, 4>& first) {
    std::vector<GuardedTensor> tensors;
    tensors.reserve(4);
    for (std::size_t i = 0; i < 4; ++i) {
      set_first_element(first[i]);
      tensors.push_back(GuardedTensor::random({kElements}, i + 1, i == 2 ? 0 : -1));
    }
    set_first_element(1);
    adam_step(test_context(), {.parameter = tensors[0].view(),
                               .m = tensors[1].view(),
                               .v = tensors[2].view(),
                               .gradient = tensors[3].view()});
    return std::array{tensors[0].values(), tensors[1].values(), tensors[2].values()};
  };
  const auto alike = step({0, 0, 0, 0});
  for (const auto& first : {std::array{1, 1, 1, 1},
                            {2, 2, 2, 2},
                            {3, 3, 3, 3},
                            {0, 1, 0, 0},
                            {0, 0, 0, 3},
                            {3, 2, 1, 0}}) {
    EXPECT_EQ(step(first), alike);
  }
}

// A step whose numbers lie in device memory has the bits of one that is given them.
TEST_P(AdamTest, GateAndScalarsStandForTheHostsNumbers) {
  const AdamCase& c = GetParam();
  GuardedTensor gate({3}, DType::kF64);
  GuardedTensor scalars({3}, DType::kF64);
  gate.assign(std::vector<double>{c.grad_scale, 1, kNaN});
  scalars.assign(std::vector<double>{2e-3, 1 - std::pow(0.9, 7.0), 1 - std::pow(0.999, 7.0)});
  std::array<std::vector<double>, 6> results;
  for (std::size_t from_tensors : {0, 1}) {
    GuardedTensor w = GuardedTensor::random({c.n}, 1);
    GuardedTensor m = GuardedTensor::random({c.n}, 2);
    GuardedTensor v = GuardedTensor::random({c.n}, 3, 0, 1);
    const GuardedTensor g = GuardedTensor::random({c.n}, 4);
    AdamArgs args = {.parameter = w.view(),
                     .m = m.view(),
                     .v = v.view(),
                     .gradient = g.view(),
                     .weight_decay = c.weight_decay,
                     .decoupled = c.decoupled,
                     .form = c.form};
    if (from_tensors == 1) {
      args.gate = gate.view();
      args.scalars = scalars.view();
      args.step = 99;  // not used
      args.lr = 99;
    } else {
      args.grad_scale = c.grad_scale;
      args.step = 7;
      args.lr = 2e-3;
    }
    run_repeatably({&w, &m, &v}, [&](const ExecutionContext& ctx) { adam_step(ctx, args); });
    results[3 * from_tensors] = w.values();
    results[3 * from_tensors + 1] = m.values();
    results[3 * from_tensors + 2] = v.values();
  }
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(results[i], results[3 + i]) << i;
  }
}

TEST(Adam, AClosedGateChangesNothing) {
  for_each_simd_level([] {
    GuardedTensor gate({3}, DType::kF64);
    GuardedTensor scalars({3}, DType::kF64);
    gate.assign(std::vector<double>{kNaN, 0, kNaN});
    scalars.assign(std::vector<double>{kNaN, 0, 0});
    GuardedTensor w = GuardedTensor::random({1500}, 1);
    GuardedTensor m = GuardedTensor::random({1500}, 2);
    GuardedTensor v = GuardedTensor::random({1500}, 3, 0, 1);
    GuardedTensor average = GuardedTensor::random({1500}, 4);
    const GuardedTensor g = GuardedTensor::filled({1500}, DType::kF32, kNaN);
    const std::array before = {w.bytes(), m.bytes(), v.bytes(), average.bytes()};
    adam_step(test_context(), {.parameter = w.view(),
                               .m = m.view(),
                               .v = v.view(),
                               .gradient = g.view(),
                               .gate = gate.view(),
                               .scalars = scalars.view()});
    ema_update(test_context(),
               {.average = average.view(), .parameter = g.view(), .gate = gate.view()});
    EXPECT_TRUE((before == std::array{w.bytes(), m.bytes(), v.bytes(), average.bytes()}));
    gate.set(1, 1);
    ema_update(test_context(),
               {.average = average.view(), .parameter = w.view(), .gate = gate.view()});
    EXPECT_NE(average.bytes(), before[3]);
  });
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

void check_ema() {
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

TEST(Adam, EmaFollowsTheFormulaAndSettlesOnTheParameter) { for_each_simd_level(check_ema); }

TEST(Adam, RefusesImpossibleSettings) {
  GuardedTensor w({4}, DType::kF32), m({4}, DType::kF32), v({4}, DType::kF32), g({4}, DType::kF32);
  AdamArgs args = {.parameter = w.view(), .m = m.view(), .v = v.view(), .gradient = g.view()};
  args.step = 0;
  expect_contract_error({"adam_step", "step is 0"}, [&] { adam_step(test_context(), args); });
  args.step = 1;
  args.beta2 = 1.0;
  expect_contract_error({"adam_step", "beta2 is 1"}, [&] { adam_step(test_context(), args); });
  args.beta2 = 0.999;
  const GuardedTensor gate = GuardedTensor::filled({3}, DType::kF64, 1);
  args.gate = gate.view();
  args.grad_scale = 0.5;
  expect_contract_error({"adam_step", "grad_scale is 0.5"},
                        [&] { adam_step(test_context(), args); });
}

}  // namespace
}  // namespace stemfabric::test
