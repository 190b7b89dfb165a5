// Several layers in one call of the linear ops: each is the layer that a call of its own computes.
#include <gtest/gtest.h>

#include "kernels/linear/linear.h"
#include "tests/oracles/linear_oracle.h"
#include "tests/support/bf16.h"
#include "tests/support/simd_levels.h"

namespace stemfabric::test {
namespace {

using Values = std::vector<double>;

constexpr int64_t kLayers = 3;

// Sizes; how the layers' matrices lie: one after another, or side by side in common rows.
struct LayersCase {
  std::string name;
  LinearSizes size;
  Layout layout;
};
[[maybe_unused]] void PrintTo(const LayersCase& c, std::ostream* out) { *out << c.name; }

class LinearLayers : public testing::TestWithParam<LayersCase> {
 protected:
  LinearSizes size() const { return GetParam().size; }
  const Layout& layout() const { return GetParam().layout; }

  GuardedTensor random(int64_t rows, int64_t columns, uint64_t seed, DType dtype) const {
    return GuardedTensor::random({kLayers, rows, columns}, seed, -1, 1, layout(), dtype);
  }
  // Of a layer.
  static Values part(const Values& all, int64_t layer) {
    const int64_t size = std::ssize(all) / kLayers;
    return {all.begin() + layer * size, all.begin() + (layer + 1) * size};
  }
  static constexpr Floor floor_of(DType dtype) {
    return dtype == DType::kBF16 ? kBf16Floor : Floor();
  }
};
INSTANTIATE_TEST_SUITE_P(
    Cases, LinearLayers,
    testing::Values(LayersCase{"apart", {.m = 9, .k = 16, .n = 12}, {}},
                    LayersCase{"side_by_side", {.m = 7, .k = 8, .n = 16}, {.order = {1, 0, 2}}},
                    LayersCase{"odd", {.m = 5, .k = 3, .n = 7}, {.order = {1, 0, 2}, .row_gap = 2}},
                    LayersCase{"of_one_row", {.m = 1, .k = 20, .n = 4}, {}},
                    LayersCase{"without_inputs", {.m = 4, .k = 0, .n = 5}, {}}),
    [](const auto& test) { return test.param.name; });

TEST_P(LinearLayers, Forward) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for_each_simd_level([&] {
      const auto x = random(size().m, size().k, 1, dtype);
      const auto kernel = random(size().k, size().n, 2, dtype);
      const auto bias = GuardedTensor::random({kLayers, size().n}, 3, -1, 1, {}, dtype);
      const auto positions = random(2, size().n, 4, dtype);
      for (const bool all : {false, true}) {  // of what an epilogue can be
        GuardedTensor y({kLayers, size().m, size().n}, dtype, layout());
        GuardedTensor pre({kLayers, size().m, size().n}, dtype, layout());
        run_repeatably({&y, &pre}, [&](const ExecutionContext& ctx) {
          linear_forward(ctx, {.x = x.view(),
                               .kernel = kernel.view(),
                               .bias = bias.view(),
                               .row_bias = all ? positions.view() : ConstTensorView(),
                               .y = y.view(),
                               .pre_activation = all ? pre.view() : TensorView(),
                               .activation = all ? Activation::kReluQuantum : Activation::kNone});
        });
        const LinearActivation activation = {all ? Activation::kReluQuantum : Activation::kNone,
                                             {}};
        for (int64_t layer = 0; layer < kLayers; ++layer) {
          const Values rows = all ? part(positions.values(), layer) : Values();
          const auto forward = [&]<typename T>() {
            return linear_forward_oracle<T>(size(), part(x.values(), layer),
                                            part(kernel.values(), layer),
                                            part(bias.values(), layer), rows, activation);
          };
          const auto oracle = forward.operator()<double>();
          Values naive = widen(forward.operator()<float>().y);
          if (dtype == DType::kBF16) {
            naive = rounded_to_bf16(naive);
          }
          // In bf16 product, sum and activation may be rounded one after the other.
          Floor floor = floor_of(dtype);
          floor.ulps *= 4;
          expect_within_bound("y", part(y.values(), layer), naive, oracle.y, floor);
        }
      }
    });
  }
}

TEST_P(LinearLayers, BackwardInput) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for_each_simd_level([&] {
      const auto dy = random(size().m, size().n, 1, dtype);
      const auto kernel = random(size().k, size().n, 2, dtype);
      const auto saved = random(size().m, size().k, 3, dtype);
      GuardedTensor dx({kLayers, size().m, size().k}, dtype, layout());
      run_repeatably({&dx}, [&](const ExecutionContext& ctx) {
        linear_backward_input(ctx, {.dy = dy.view(),
                                    .kernel = kernel.view(),
                                    .dx = dx.view(),
                                    .input_activation = Activation::kReluQuantum,
                                    .saved = saved.view()});
      });
      for (int64_t layer = 0; layer < kLayers; ++layer) {
        const auto backward = [&]<typename T>() {
          return linear_backward_input_oracle<T>(
              size(), part(dy.values(), layer), part(kernel.values(), layer),
              part(saved.values(), layer), {Activation::kReluQuantum, {}}, {});
        };
        Values naive = widen(backward.operator()<float>());
        if (dtype == DType::kBF16) {
          naive = rounded_to_bf16(naive);
        }
        Floor floor = floor_of(dtype);
        floor.ulps *= 4;
        expect_within_bound("dx", part(dx.values(), layer), naive, backward.operator()<double>(),
                            floor);
      }
    });
  }
}

TEST_P(LinearLayers, BackwardKernel) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for_each_simd_level([&] {
      const auto x = random(size().m, size().k, 1, dtype);
      const auto dy = random(size().m, size().n, 2, dtype);
      GuardedTensor dkernel = random(size().k, size().n, 3, DType::kF32);
      GuardedTensor dbias = GuardedTensor::random({kLayers, size().n}, 4, -1, 1, {.row_gap = 2});
      const Values dkernel_before = dkernel.values();
      const Values dbias_before = dbias.values();
      run_repeatably({&dkernel, &dbias}, [&](const ExecutionContext& ctx) {
        linear_backward_kernel(
            ctx,
            {.x = x.view(), .dy = dy.view(), .dkernel = dkernel.view(), .dbias = dbias.view()});
      });
      for (int64_t layer = 0; layer < kLayers; ++layer) {
        const auto backward = [&]<typename T>() {
          return linear_backward_kernel_oracle<T>(
              size(), part(x.values(), layer), part(dy.values(), layer),
              part(dkernel_before, layer), part(dbias_before, layer));
        };
        const auto oracle = backward.operator()<double>();
        const auto naive = backward.operator()<float>();
        expect_within_bound("dkernel", part(dkernel.values(), layer), widen(naive.dkernel),
                            oracle.dkernel);
        expect_within_bound("dbias", part(dbias.values(), layer), widen(naive.dbias), oracle.dbias);
      }
    });
  }
}

TEST(LinearLayersContract, TensorsAgreeOnTheirNumber) {
  const auto x = GuardedTensor::random({2, 3, 4}, 1);
  const auto kernel = GuardedTensor::random({3, 4, 5}, 2);
  GuardedTensor y({2, 3, 5}, DType::kF32);
  expect_contract_error({"linear_forward", "[3, 4, 5]", "2 layers"}, [&] {
    linear_forward(test_context(), {.x = x.view(), .kernel = kernel.view(), .y = y.view()});
  });
  const auto one = GuardedTensor::random({4, 5}, 2);
  expect_contract_error({"linear_forward: x has shape"}, [&] {
    linear_forward(test_context(), {.x = x.view(), .kernel = one.view(), .y = y.view()});
  });
  const auto fits = GuardedTensor::random({2, 4, 5}, 2);
  const auto bias = GuardedTensor::random({5}, 3);
  expect_contract_error({"linear_forward", "[5]", "2 layers"}, [&] {
    linear_forward(test_context(),
                   {.x = x.view(), .kernel = fits.view(), .bias = bias.view(), .y = y.view()});
  });
}

TEST(LinearLayersContract, NoLayersAreNothing) {
  const GuardedTensor x({0, 3, 4}, DType::kF32);
  const GuardedTensor kernel({0, 4, 5}, DType::kF32);
  GuardedTensor y({0, 3, 5}, DType::kF32);
  linear_forward(test_context(), {.x = x.view(), .kernel = kernel.view(), .y = y.view()});
}

}  // namespace
}  // namespace stemfabric::test
