#include "trainer/training/sample_order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "tests/support/tiny_training.h"
#include "trainer/data/dataset.h"
#include "trainer/training/prefetch.h"

namespace stemfabric {
namespace {

using test::TempDir;

TEST(EpochOrder, IsAPermutationAndAPureFunctionOfSeedAndEpoch) {
  const auto order = epoch_order(1000, 42, 3, true);
  EXPECT_EQ(order, epoch_order(1000, 42, 3, true));
  EXPECT_NE(order, epoch_order(1000, 42, 4, true));
  EXPECT_NE(order, epoch_order(1000, 43, 3, true));
  auto sorted = order;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(sorted, epoch_order(1000, 42, 3, false));
  EXPECT_EQ(sorted.front(), 0);
  EXPECT_EQ(sorted.back(), 999);
}

// Each of the 24 orders of four samples is equally likely: 4800 epochs give 200 of each with a
// standard deviation of 13.8; five of them are allowed.
TEST(EpochOrder, ShufflesWithoutBias) {
  std::map<std::vector<int64_t>, int> seen;
  for (int64_t epoch = 0; epoch < 4800; ++epoch) {
    ++seen[epoch_order(4, 7, epoch, true)];
  }
  ASSERT_EQ(seen.size(), 24U);
  for (const auto& [order, count] : seen) {
    EXPECT_NEAR(count, 200, 69);
  }
}

TEST(StepPlan, KeepsTheLastSmallerStepAndMicroBatch) {
  const StepPlan plan{.samples = 22, .batch_size = 4, .accumulation = 2};
  EXPECT_EQ(plan.steps_per_epoch(), 3);
  EXPECT_EQ(plan.samples_in_step(0), 8);
  EXPECT_EQ(plan.samples_in_step(2), 6);
  EXPECT_EQ(plan.micro_batches_in_step(0), 2);
  EXPECT_EQ(plan.micro_batches_in_step(2), 2);
  const StepPlan one{.samples = 17, .batch_size = 4, .accumulation = 2};
  EXPECT_EQ(one.micro_batches_in_step(2), 1);
  EXPECT_EQ(one.samples_in_step(2), 1);
}

TEST(SampleStream, FromAnyStepEqualsTheWholeStream) {
  const StepPlan plan{.samples = 11, .batch_size = 3, .accumulation = 2};
  ASSERT_EQ(plan.steps_per_epoch(), 2);
  std::vector<std::vector<int64_t>> whole;  // three epochs, micro-batch by micro-batch
  SampleStream stream(plan, 5, true, 0, 0);
  for (int i = 0; i < 12; ++i) {
    const auto batch = stream.next();
    whole.emplace_back(batch.begin(), batch.end());
  }
  EXPECT_EQ(whole[3].size(), 2U);  // 11 = 3 + 3 + 3 + 2
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    // Step 2 of an epoch of two: nothing left of it, so the next epoch follows.
    for (int64_t step = 0; step <= 2; ++step) {
      SampleStream part(plan, 5, true, epoch, step);
      for (auto i = static_cast<std::size_t>(4 * epoch + 2 * step); i < whole.size(); ++i) {
        const auto batch = part.next();
        EXPECT_EQ(std::vector<int64_t>(batch.begin(), batch.end()), whole[i])
            << "epoch " << epoch << " step " << step << " batch " << i;
      }
    }
  }
}

TEST(Prefetcher, GivesTheStreamsBatchesInOrder) {
  const TempDir folder;
  test::write_tiny_dataset(folder.path(), {.train = 10, .validation = 0});
  const Dataset dataset(folder / "train");
  const StepPlan plan{.samples = 10, .batch_size = 4, .accumulation = 2};
  Prefetcher batches(dataset, SampleStream(plan, 1, true, 0, 0), 4, 2);
  SampleStream expected(plan, 1, true, 0, 0);
  Batch reference(4, dataset.tokens(), dataset.features(), dataset.outputs());
  for (int step = 0; step < 20; ++step) {
    for (int held = 0; held < 2; ++held) {
      const auto& batch = dynamic_cast<const Batch&>(batches.next());
      EXPECT_EQ(batch.epoch, (2 * step + held) / 3);
      dataset.gather(expected.next(), reference);
      ASSERT_EQ(batch.samples, reference.samples);
      ASSERT_EQ(batch.size, reference.size);
      ASSERT_EQ(0, std::memcmp(batch.targets.as<float>(), reference.targets.as<float>(),
                               reference.targets.bytes()));
    }
    batches.release();
  }
}

TEST(Prefetcher, EndsWhileBatchesAreWaiting) {
  const TempDir folder;
  test::write_tiny_dataset(folder.path(), {.train = 10, .validation = 0});
  const Dataset dataset(folder / "train");
  for (int i = 0; i < 20; ++i) {
    Prefetcher batches(
        dataset, SampleStream({.samples = 10, .batch_size = 4, .accumulation = 1}, 1, true, 0, 0),
        4, 1);
    if (i % 2 == 0) {
      batches.next();
    }
  }
}

}  // namespace
}  // namespace stemfabric
