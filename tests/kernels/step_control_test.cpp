#include "kernels/step_control/step_control.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <vector>

#include "kernels/adam/adam.h"
#include "kernels/reduction/reduction.h"
#include "tests/support/op_harness.h"
#include "tests/support/simd_levels.h"

namespace stemfabric::test {
namespace {

using Values = std::vector<double>;

struct Control {
  Values gate, steps, scalars;
};
struct Numbers {
  Values squares = {25, 0, -1};
  Values loss = {1, 2, 3}, weighted = {1, 2, 3};
  double clip = 0;
  double steps = 4;
};

GuardedTensor doubles(const Values& values) {
  GuardedTensor tensor({static_cast<int64_t>(values.size())}, DType::kF64);
  tensor.assign(values);
  return tensor;
}

Control run(const Numbers& in) {
  const GuardedTensor squares = doubles(in.squares);
  const GuardedTensor loss = doubles(in.loss);
  const GuardedTensor weighted = doubles(in.weighted);
  const GuardedTensor lr = doubles({0.01});
  GuardedTensor steps = doubles({in.steps});
  GuardedTensor gate({3}, DType::kF64);
  GuardedTensor scalars({3}, DType::kF64);
  run_repeatably({&gate, &steps, &scalars}, [&](const ExecutionContext& ctx) {
    step_control(ctx, {.squares = squares.view(),
                       .loss = loss.view(),
                       .weighted = weighted.view(),
                       .clip = in.clip,
                       .gate = gate.view(),
                       .lr = lr.view(),
                       .beta1 = 0.75,
                       .beta2 = 0.5,
                       .steps = steps.view(),
                       .scalars = scalars.view()});
  });
  return {gate.values(), steps.values(), scalars.values()};
}

TEST(StepControl, ClipsGradientsThatAreTooLong) {
  EXPECT_EQ(run({}).gate, (Values{1, 1, 5}));
  EXPECT_EQ(run({.clip = 5}).gate, (Values{1, 1, 5}));
  EXPECT_EQ(run({.clip = 1.25}).gate, (Values{0.25, 1, 5}));
  EXPECT_EQ(run({.squares = {0, 0, -1}, .clip = 1}).gate, (Values{1, 1, 0}));
}

TEST(StepControl, CountsStepsAndCorrectsTheirBias) {
  const Control first = run({.steps = 0});
  EXPECT_EQ(first.steps, Values{1});
  EXPECT_EQ(first.scalars, (Values{0.01, 0.25, 0.5}));
  const Control fifth = run({});
  EXPECT_EQ(fifth.steps, Values{5});
  EXPECT_EQ(fifth.scalars[0], 0.01);
  EXPECT_NEAR(fifth.scalars[1], 1 - 243.0 / 1024, 1e-15);
  EXPECT_NEAR(fifth.scalars[2], 1 - 1.0 / 32, 1e-15);
}

TEST(StepControl, WhatIsNotFiniteClosesTheGate) {
  const Control gradient = run({.squares = {25, 3, 17}, .clip = 1});
  EXPECT_EQ(gradient.gate[1], 0);
  EXPECT_TRUE(std::isnan(gradient.gate[2]));
  EXPECT_EQ(gradient.steps, Values{4});
  for (const double bad : {kNaN, kInf, -kInf}) {
    for (std::size_t at : {0, 31, 32, 69}) {
      Numbers numbers = {.loss = Values(70, 1.0), .weighted = Values(70, 2.0)};
      numbers.loss[at] = bad;
      const Control loss = run(numbers);
      EXPECT_EQ(loss.gate, (Values{1, 0, 5}));
      EXPECT_EQ(loss.steps, Values{4});
      std::swap(numbers.loss, numbers.weighted);
      EXPECT_EQ(run(numbers).gate, (Values{1, 0, 5}));
    }
  }
}

TEST(StepControl, LossesAndScalarsMayBeAbsent) {
  const GuardedTensor squares = doubles({9, 0, -1});
  GuardedTensor gate({3}, DType::kF64);
  step_control(test_context(), {.squares = squares.view(), .clip = 1.5, .gate = gate.view()});
  EXPECT_EQ(gate.values(), (Values{0.5, 1, 3}));
  GuardedTensor steps = doubles({0});
  expect_contract_error({"step_control", "lr is missing"}, [&] {
    step_control(test_context(),
                 {.squares = squares.view(), .gate = gate.view(), .steps = steps.view()});
  });
}

// A small model's training state, moved by the chain of ops that a step consists of.
struct State {
  explicit State(int64_t n)
      : gradient({n}, DType::kF32),
        w(GuardedTensor::random({n}, 1)),
        m(GuardedTensor::filled({n}, DType::kF32, 0)),
        v(GuardedTensor::filled({n}, DType::kF32, 0)),
        average(GuardedTensor::random({n}, 1)) {}

  void step_on_device(double clip) {
    const ExecutionContext& ctx = test_context();
    sum_squares_into(ctx, {.x = gradient.view(), .result = squares.view()});
    step_control(ctx, {.squares = squares.view(),
                       .loss = loss.view(),
                       .clip = clip,
                       .gate = gate.view(),
                       .lr = lr.view(),
                       .steps = steps.view(),
                       .scalars = scalars.view()});
    adam_step(ctx, {.parameter = w.view(),
                    .m = m.view(),
                    .v = v.view(),
                    .gradient = gradient.view(),
                    .gate = gate.view(),
                    .scalars = scalars.view()});
    ema_update(ctx, {.average = average.view(), .parameter = w.view(), .gate = gate.view()});
  }
  // As the host would do it that looks at every number in between.
  void step_by_host(double clip, int64_t step) {
    const ExecutionContext& ctx = test_context();
    const double norm = std::sqrt(sum_squares(ctx, gradient.view()).sum);
    adam_step(ctx, {.parameter = w.view(),
                    .m = m.view(),
                    .v = v.view(),
                    .gradient = gradient.view(),
                    .step = step,
                    .lr = lr.get(0),
                    .grad_scale = norm > clip ? clip / norm : 1.0});
    ema_update(ctx, {.average = average.view(), .parameter = w.view()});
  }
  void set_gradient(uint64_t seed) {
    gradient.assign(GuardedTensor::random({gradient.elements()}, seed).values());
  }
  std::array<std::vector<std::byte>, 4> bytes() const {
    return {w.bytes(), m.bytes(), v.bytes(), average.bytes()};
  }
  std::array<Values, 4> values() const {
    return {w.values(), m.values(), v.values(), average.values()};
  }

  GuardedTensor gradient, w, m, v, average;
  GuardedTensor squares{{3}, DType::kF64}, gate{{3}, DType::kF64}, scalars{{3}, DType::kF64};
  GuardedTensor lr = doubles({0.003}), steps = doubles({0}), loss = doubles({1, 2});
};

TEST(StepControl, ASpoiledStepChangesNothingAndTheNextOnesAreAsIfItHadNotBeen) {
  for_each_simd_level([] {
    constexpr int64_t kElements = 2500;
    constexpr double kClip = 20;  // the gradients' norm is about 29
    State state(kElements);
    State expected(kElements);
    int64_t made = 0;
    for (uint64_t round = 1; round <= 6; ++round) {
      state.set_gradient(round);
      state.loss.set(0, round == 3 ? kInf : 1);
      if (round == 1 || round == 4) {
        state.gradient.set(round == 1 ? 0 : kElements - 1, kNaN);
      }
      const bool spoiled = round == 1 || round == 3 || round == 4;
      const auto before = state.bytes();
      state.step_on_device(kClip);
      EXPECT_EQ(state.bytes() == before, spoiled) << round;
      if (!spoiled) {
        expected.set_gradient(round);
        expected.step_by_host(kClip, ++made);
        EXPECT_TRUE(state.values() == expected.values()) << round;
        EXPECT_LT(state.gate.get(0), 1);
      }
      EXPECT_EQ(state.steps.get(0), static_cast<double>(made));
    }
  });
}

}  // namespace
}  // namespace stemfabric::test
