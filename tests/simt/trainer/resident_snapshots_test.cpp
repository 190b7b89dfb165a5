// A data set on the device: the same batches, and the same bits of a run, as with batches that are
// copied there.
#include "trainer/training/resident_snapshots.h"

#include <gtest/gtest.h>

#include "runtime/memory/host_access.h"
#include "tests/simt/trainer/devices.h"
#include "tests/support/op_harness.h"
#include "tests/support/tiny_training.h"
#include "trainer/training/snapshot_task.h"
#include "trainer/training/training.h"
#include "trainer/training/training_setup.h"

namespace stemfabric::test {
namespace {

class ResidentSnapshots : public testing::Test {
 protected:
  void SetUp() override {
    // More samples than are uploaded at a time.
    write_tiny_dataset(folder_ / "data", {.train = 70, .validation = 5});
    simt::set_schedule(simt::Schedule::kReverse, 1);
  }

  TempDir folder_;
  SimtDeviceMemory memory_;
};

std::vector<std::vector<std::byte>> host_bytes(const ExecutionContext& ctx,
                                               const StagedBatch& staged) {
  std::vector<std::vector<std::byte>> all;
  for (const ConstTensorView& view : staged.views()) {
    all.emplace_back(view ? view.bytes() : 0);
    if (view) {
      // Rows of targets are strided, but lie in one block from the first byte on.
      const ConstTensorView block(view.data(), DType::kU8,
                                  Shape{static_cast<int64_t>(view.bytes())});
      copy_to_host(ctx, all.back().data(), block);
    }
  }
  return all;
}

TEST_F(ResidentSnapshots, BatchesAreThoseOfTheHost) {
  const TrainingSetup setup = prepare_training(tiny_config(folder_ / "data"));
  const Dataset& train = *setup.data.train;
  const Dataset& validation = *setup.data.validation;
  const std::vector<double> stem_weights = {1, 0.5, 2, 1, 0.25, 1};
  const ExecutionContext ctx = simt_device(memory_);
  const ResidentSource train_source(train), validation_source(validation);
  ResidentStage resident(ctx, stem_weights, {&train_source, &validation_source});
  SnapshotStage copied(ctx, stem_weights);
  const auto check = [&](const Dataset& data, const ResidentSource& source,
                         const std::vector<int64_t>& samples) {
    const auto here = data.make_batch(6, ctx.staging());
    const auto there = source.make_batch(6, ctx.staging());
    data.fill(3, samples, *here);
    source.fill(3, samples, *there);
    EXPECT_EQ(there->size, here->size);
    EXPECT_EQ(there->samples, here->samples);
    EXPECT_EQ(there->epoch, 3);
    resident.release();
    copied.release();
    const StagedBatch a = resident.put(*there);
    const StagedBatch b = copied.put(*here);
    EXPECT_EQ(a.size, b.size);
    EXPECT_EQ(a.targets.shape(), b.targets.shape());
    EXPECT_EQ(a.targets.stride(0), b.targets.stride(0));
    EXPECT_EQ(host_bytes(ctx, a), host_bytes(ctx, b));
    ctx.stream().synchronize();
  };
  check(train, train_source, {69, 0, 64, 63, 5, 5});
  check(validation, validation_source, {4, 1});
  check(train, train_source, {12, 30, 65});
  EXPECT_EQ(train_source.name(0, 68), train.name(0, 68));
  expect_contract_error({"sample 70 of 70"}, [&] {
    const auto batch = train_source.make_batch(1, ctx.staging());
    train_source.fill(0, std::vector<int64_t>{70}, *batch);
  });
}

TEST_F(ResidentSnapshots, ARunHasTheBitsOfOneWithCopiedBatches) {
  const auto train = [&](const std::string& name, const std::string& resident) {
    TrainOptions options{.output_dir = folder_ / name};
    options.make_context = [&] { return simt_device(memory_); };
    run_training(tiny_config(folder_ / "data",
                             {"training.gradient_accumulation_steps=3", "training.batch_size=9",
                              "training.resident_data=" + resident}),
                 options);
  };
  train("resident", "auto");
  train("copied", "off");
  EXPECT_EQ(read_all_tensors(folder_ / "resident" / "final_model.safetensors"),
            read_all_tensors(folder_ / "copied" / "final_model.safetensors"));
  EXPECT_EQ(read_metrics(folder_ / "resident"), read_metrics(folder_ / "copied"));
}

TEST_F(ResidentSnapshots, OnlyWhatFitsIsKeptOnTheDevice) {
  const TrainingSetup setup = prepare_training(tiny_config(folder_ / "data"));
  // 75 samples: 6 tokens of 5 features, a mask, and six stems of 3 outputs with theirs; six
  // weights.
  const std::size_t bytes = 75 * (6 * (4 * 5 + 1 + 6 * 3 * 5) + 6 * 4);
  const auto numbers_alone = [&](std::size_t limit) {
    const auto task = make_training_task(setup, static_cast<int64_t>(limit));
    return task->train().batch_bytes(10) == 10 * sizeof(int32_t);
  };
  EXPECT_TRUE(numbers_alone(bytes));
  EXPECT_FALSE(numbers_alone(bytes - 1));
  EXPECT_FALSE(numbers_alone(0));
  EXPECT_EQ(make_training_task(setup, static_cast<int64_t>(bytes))->staged_bytes(0, false), bytes);
  const Device gpu{DeviceKind::kCuda, 0};
  TrainingConfig config;
  EXPECT_EQ(resident_limit(config, gpu, 4000), 1000);
  EXPECT_EQ(resident_limit(config, gpu, -1), 0);
  EXPECT_EQ(resident_limit(config, Device{}, 4000), 0);
  config.resident_data = "off";
  EXPECT_EQ(resident_limit(config, gpu, 4000), 0);
}

}  // namespace
}  // namespace stemfabric::test
