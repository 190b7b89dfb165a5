// A training step with the sums of NCCL in it, on a GPU: with one rank, which is what one GPU can
// have, every sum is the value itself, so nothing may change but who computes it.
#include <gtest/gtest.h>

#include "runtime/core/check.h"
#include "tests/support/op_harness.h"
#include "tests/support/tiny_training.h"
#include "tests/trainer/training/shared_training.h"

namespace stemfabric {
namespace {

TEST(NcclStep, OfOneRankGivesTheBitsOfAStepWithoutSums) {
  const NcclFunctions* nccl = nullptr;
  try {
    nccl = &load_nccl();
  } catch (const DeviceError& error) {
    GTEST_SKIP() << error.what();
  }
  const test::TempDir folder;
  test::write_tiny_dataset(folder.path(), {.train = 13, .validation = 0});
  const ExecutionContext& ctx = test::test_context();
  Collectives alone;
  for (const bool graph : {true, false}) {
    test::SharedTrainingOptions options{
        .folder = folder / "train", .whole_batch = 6, .steps = 9, .graph = graph};
    const test::SharedTraining without = test::train_shared(ctx, alone, options);
    DeviceCollectives devices(alone, ctx, *nccl);
    options.devices = &devices;
    const test::SharedTraining with = test::train_shared(ctx, alone, options);
    devices.close();
    EXPECT_EQ(with.losses, without.losses) << (graph ? "graph" : "kernels");
    EXPECT_EQ(with.weights, without.weights) << (graph ? "graph" : "kernels");
    EXPECT_EQ(with.samples, without.samples);
  }
}

}  // namespace
}  // namespace stemfabric
