// The activations against their float64 oracle, on every path of vectors.
#include "kernels/activation/activation.h"

#include <gtest/gtest.h>

#include <cmath>

#include "runtime/io/npy.h"
#include "tests/oracles/activation_oracle.h"
#include "tests/support/op_harness.h"
#include "tests/support/paths.h"
#include "tests/support/simd_levels.h"

namespace stemfabric::test {
namespace {

constexpr Activation kAll[] = {Activation::kNone, Activation::kRelu, Activation::kReluQuantum};
constexpr QuantumCoefficients kCoefficients[] = {{}, {1, 0, 0}, {0, 1, 0}, {-0.3f, 0.7f, 2.0f}};

template <typename T>
struct Reference {
  std::vector<T> y, dx;
};

template <typename T>
Reference<T> reference(Activation activation, const QuantumCoefficients& q,
                       const std::vector<double>& x, const std::vector<double>& dy) {
  Reference<T> out;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto value = static_cast<T>(x[i]);
    out.y.push_back(activation_oracle(activation, q, value));
    out.dx.push_back(activation_derivative_oracle(activation, q, value) * static_cast<T>(dy[i]));
  }
  return out;
}

void check(Activation activation, const QuantumCoefficients& q, const GuardedTensor& x) {
  const Shape shape = x.view().shape();
  const auto dy = GuardedTensor::random(shape, 9);
  GuardedTensor y(shape, DType::kF32);
  GuardedTensor dx(shape, DType::kF32);
  run_repeatably({&y, &dx}, [&](const ExecutionContext& ctx) {
    activation_forward(ctx, {.activation = activation, .quantum = q, .x = x.view(), .y = y.view()});
    activation_backward(
        ctx,
        {.activation = activation, .quantum = q, .x = x.view(), .dy = dy.view(), .dx = dx.view()});
  });
  const auto oracle = reference<double>(activation, q, x.values(), dy.values());
  const auto naive = reference<float>(activation, q, x.values(), dy.values());
  expect_within_bound("y", y.values(), widen(naive.y), oracle.y);
  // τ/s² · dy rounds s, s², the quotient and the product; beyond r = 87 the op's slope of the
  // sigmoid stays at e^-87, the last one above the smallest normal number.
  expect_within_bound("dx", dx.values(), widen(naive.dx), oracle.dx,
                      {.ulps = 4, .absolute = 2e-38});
}

TEST(Activation, AgreesWithTheOracle) {
  for_each_simd_level([] {
    for (Activation activation : kAll) {
      for (const auto& q : kCoefficients) {
        check(activation, q, GuardedTensor::random({3, 5, 7}, 1, -3, 3));
      }
      for (int64_t n : {0, 1, 2, 15, 16, 17, 40000}) {
        check(activation, {}, GuardedTensor::random({n}, 2, -20, 20));
      }
    }
  });
}

// Small arguments on their own, where an absolute error of one rounding of 1 would be a large
// relative one; and large ones, near the largest float.
TEST(Activation, KeepsItsPrecisionAtEveryMagnitude) {
  for_each_simd_level([] {
    for (double scale : {1e-30, 1e-6, 1e-3, 0.1, 1.0, 10.0, 80.0, 200.0, 1e38}) {
      for (const auto& q : kCoefficients) {
        check(Activation::kReluQuantum, q, GuardedTensor::random({100}, 3, 0.5 * scale, scale));
      }
    }
  });
}

TEST(Activation, SpecialValues) {
  for_each_simd_level([] {
    GuardedTensor x({6}, DType::kF32);
    x.assign(std::vector<double>{0.0, -0.0, -1e-38, kNaN, kInf, -kInf});
    for (Activation activation : kAll) {
      check(activation, {}, x);
    }
  });
}

TEST(Activation, GradientMayReplaceItsInput) {
  const auto x = GuardedTensor::random({2, 50}, 1);
  auto in_place = GuardedTensor::random({2, 50}, 2);
  const auto dy = GuardedTensor::random({2, 50}, 2);
  GuardedTensor dx({2, 50}, DType::kF32);
  const auto& ctx = test_context();
  const auto act = Activation::kReluQuantum;
  activation_backward(ctx, {.activation = act, .x = x.view(), .dy = dy.view(), .dx = dx.view()});
  activation_backward(
      ctx, {.activation = act, .x = x.view(), .dy = in_place.view(), .dx = in_place.view()});
  EXPECT_EQ(in_place.values(), dx.values());
}

// Recorded float64 values of q(x) and q'(x). For x <= 0 the op composes q with a relu, so there
// q(0) = 0.2 and slope 0 hold instead.
TEST(Activation, AgreesWithTheRecordedValues) {
  const Tensor recorded_x = read_npy(data_dir() / "attention" / "qact_x.npy");
  const Tensor recorded_y = read_npy(data_dir() / "attention" / "qact_y.npy");
  const Tensor recorded_dy = read_npy(data_dir() / "attention" / "qact_dy.npy");
  const int64_t n = recorded_x.elements();
  ASSERT_GT(n, 50);
  GuardedTensor x({n}, DType::kF32);
  for (int64_t i = 0; i < n; ++i) {
    x.set(i, recorded_x.as<double>()[i]);
  }
  const auto ones = GuardedTensor::filled({n}, DType::kF32, 1);
  GuardedTensor y({n}, DType::kF32);
  GuardedTensor dx({n}, DType::kF32);
  const auto act = Activation::kReluQuantum;
  for_each_simd_level([&] {
    activation_forward(test_context(), {.activation = act, .x = x.view(), .y = y.view()});
    activation_backward(test_context(),
                        {.activation = act, .x = x.view(), .dy = ones.view(), .dx = dx.view()});
    int positive = 0;
    for (int64_t i = 0; i < n; ++i) {
      const double at = recorded_x.as<double>()[i];
      positive += at > 0;
      const double want = at > 0 ? recorded_y.as<double>()[i] : 0.2;
      const double slope = at > 0 ? recorded_dy.as<double>()[i] : 0.0;
      // Rounding x to f32, the coefficients to f32, and the result.
      const double tolerance = 4 * 0x1p-24 * (1 + std::abs(want) + std::abs(at));
      EXPECT_NEAR(y.get(i), want, tolerance) << "x = " << at;
      EXPECT_NEAR(dx.get(i), slope, tolerance) << "x = " << at;
    }
    EXPECT_GT(positive, 20);
  });
}

TEST(ActivationContract, NamesTheTensorAtFault) {
  const auto x = GuardedTensor::random({4, 5}, 1);
  GuardedTensor other({5, 4}, DType::kF32);
  expect_contract_error({"activation_forward", "y", "[5, 4]", "[4, 5]"}, [&] {
    activation_forward(test_context(), {.x = x.view(), .y = other.view()});
  });
  expect_contract_error({"activation_backward", "dy", "missing"}, [&] {
    activation_backward(test_context(), {.x = x.view(), .dx = other.view()});
  });
}

}  // namespace
}  // namespace stemfabric::test
