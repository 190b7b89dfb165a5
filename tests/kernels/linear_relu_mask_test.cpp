// The bit mask that a ReLU layer's product may leave for its gradient: whether it does or not, and
// in whatever form, dx is that of the saved outputs.
#include <gtest/gtest.h>

#include "kernels/linear/linear.h"
#include "tests/support/bf16.h"
#include "tests/support/simd_levels.h"

namespace stemfabric::test {
namespace {

struct MaskCase {
  int64_t m, hidden, outputs;  // tokens, width of the layer with ReLU, and of the next
  DType dtype;
};

class LinearReluMask : public testing::TestWithParam<MaskCase> {};
INSTANTIATE_TEST_SUITE_P(
    Cases, LinearReluMask,
    testing::Values(MaskCase{9, 16, 12, DType::kF32}, MaskCase{5, 300, 12, DType::kF32},
                    MaskCase{7, 14, 12, DType::kF32}, MaskCase{4, 7, 12, DType::kF32},
                    // A mask, and no product of the library that reads it.
                    MaskCase{9, 16, 14, DType::kF32}, MaskCase{9, 128, 12, DType::kBF16},
                    MaskCase{5, 136, 14, DType::kBF16}),
    [](const auto& test) {
      return std::string(dtype_name(test.param.dtype)) + "_" + std::to_string(test.param.hidden) +
             "_" + std::to_string(test.param.outputs);
    });

TEST_P(LinearReluMask, GivesTheGradientOfTheSavedOutputs) {
  const int64_t m = GetParam().m;
  const int64_t hidden = GetParam().hidden;
  const DType dtype = GetParam().dtype;
  constexpr int64_t kInputs = 8;
  const AlignedTensors aligned;  // as memory of the arena is
  const auto x = GuardedTensor::random({m, kInputs}, 1, -1, 1, {}, dtype);
  const auto kernel = GuardedTensor::random({kInputs, hidden}, 2, -1, 1, {}, dtype);
  const auto bias = GuardedTensor::random({hidden}, 3, -1, 1, {}, dtype);
  GuardedTensor y({m, hidden}, dtype);
  GuardedTensor mask({m, relu_mask_bytes(hidden)}, DType::kU8);
  bool written = true;
  linear_forward(test_context(), {.x = x.view(),
                                  .kernel = kernel.view(),
                                  .bias = bias.view(),
                                  .y = y.view(),
                                  .activation = Activation::kRelu,
                                  .relu_mask = mask.view(),
                                  .relu_mask_written = &written});
  if (test_context().is_cpu()) {
    EXPECT_FALSE(written);
  }
  const auto dy = GuardedTensor::random({m, GetParam().outputs}, 4, -1, 1, {}, dtype);
  const auto out = GuardedTensor::random({hidden, GetParam().outputs}, 5, -1, 1, {}, dtype);
  const auto gradient = [&](bool by_mask) {
    GuardedTensor dx({m, hidden}, dtype);
    linear_backward_input(test_context(), {.dy = dy.view(),
                                           .kernel = out.view(),
                                           .dx = dx.view(),
                                           .input_activation = Activation::kRelu,
                                           .saved = y.view(),
                                           .relu_mask = by_mask ? mask.view() : ConstTensorView()});
    return dx.values();
  };
  RecordProperty("relu_mask_written", written ? "yes" : "no");  // by a GPU's library
  EXPECT_EQ(gradient(written), gradient(false));
  if (ops_are_emulated()) {
    EXPECT_EQ(written, hidden % 2 == 0 && hidden % 8 != 6) << "the case is not what it is for";
  }
}

TEST(LinearReluMaskContract, GoesWithReluAlone) {
  const AlignedTensors aligned;
  const auto x = GuardedTensor::random({3, 4}, 1);
  const auto kernel = GuardedTensor::random({4, 5}, 2);
  GuardedTensor y({3, 5}, DType::kF32);
  GuardedTensor mask({3, relu_mask_bytes(5)}, DType::kU8);
  bool written = false;
  LinearForwardArgs args{.x = x.view(),
                         .kernel = kernel.view(),
                         .y = y.view(),
                         .relu_mask = mask.view(),
                         .relu_mask_written = &written};
  expect_contract_error({"linear_forward", "relu_mask without ReLU"},
                        [&] { linear_forward(test_context(), args); });
  args.activation = Activation::kRelu;
  args.relu_mask_written = nullptr;
  expect_contract_error({"linear_forward", "relu_mask_written"},
                        [&] { linear_forward(test_context(), args); });
}

}  // namespace
}  // namespace stemfabric::test
