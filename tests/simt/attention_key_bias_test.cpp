// What attention by a library needs besides it: key masks as a bias, and rows without open keys.
#include "kernels/attention/attention_key_bias.h"

#include <gtest/gtest.h>

#include "tests/support/op_harness.h"

namespace stemfabric::test {
namespace {

constexpr int64_t kBatch = 3;

// Entry 0: all open; 1: none; 2: only the last.
GuardedTensor mask_of(int64_t tokens, const Layout& layout) {
  GuardedTensor mask = GuardedTensor::filled({kBatch, tokens}, DType::kU8, 0, layout);
  for (int64_t t = 0; t < tokens; ++t) {
    mask.set(t, 1);
  }
  mask.set(3 * tokens - 1, 1);
  return mask;
}

TEST(AttentionKeyBias, IsZeroForOpenKeys) {
  for (const int64_t tokens : {1, 5, 300}) {
    const GuardedTensor mask = mask_of(tokens, {.row_gap = 7});
    GuardedTensor bias({kBatch, tokens}, DType::kF32);
    run_repeatably({&bias}, [&](const ExecutionContext& ctx) {
      cuda::attention_key_bias(ctx, attention::key_mask_of(mask.view()), bias.view().as<float>(),
                               kBatch, tokens);
    });
    for (int64_t i = 0; i < kBatch * tokens; ++i) {
      EXPECT_EQ(bias.get(i), mask.get(i) == 1 ? 0.0F : cuda::kClosedKey) << i;
    }
  }
}

TEST(AttentionKeyBias, ClearsTheRowsOfEntriesWithoutOpenKeys) {
  constexpr int64_t kTokens = 300;
  constexpr int64_t kHeads = 2;
  constexpr int64_t kDim = 3;
  const GuardedTensor mask = mask_of(kTokens, {});
  const Shape shape = {kBatch, kTokens, kHeads, kDim};
  GuardedTensor x =
      GuardedTensor::filled(shape, DType::kBF16, 2, {.order = {2, 0, 1, 3}, .row_gap = 1});
  GuardedTensor y = GuardedTensor::filled(shape, DType::kBF16, 3);
  run_repeatably({&x, &y}, [&](const ExecutionContext& ctx) {
    cuda::attention_clear_closed(
        ctx, attention::key_mask_of(mask.view()),
        {.rows = {attention::rows_of<Bf16>(x.view()), {}, attention::rows_of<Bf16>(y.view())},
         .batch = kBatch,
         .tokens = kTokens,
         .heads = kHeads,
         .dim = kDim});
  });
  const int64_t entry = kTokens * kHeads * kDim;
  for (int64_t i = 0; i < kBatch * entry; ++i) {
    ASSERT_EQ(x.get(i), i / entry == 1 ? 0 : 2) << i;
    ASSERT_EQ(y.get(i), i / entry == 1 ? 0 : 3) << i;
  }
}

}  // namespace
}  // namespace stemfabric::test
