#include "trainer/training/training_task.h"

#include <gtest/gtest.h>

namespace stemfabric {
namespace {

// A source of samples of so many bytes.
class Sized final : public SampleSource {
 public:
  explicit Sized(std::size_t bytes) : bytes_(bytes) {}
  int64_t size() const override { return 1; }
  int64_t tokens() const override { return 1; }
  std::string name(int64_t /*epoch*/, int64_t /*sample*/) const override { return "sample"; }
  std::unique_ptr<SampleBatch> make_batch(int64_t capacity,
                                          MemoryResource& /*memory*/) const override {
    return std::make_unique<SampleBatch>(capacity);
  }
  std::size_t batch_bytes(int64_t capacity) const override {
    return static_cast<std::size_t>(capacity) * bytes_;
  }
  void fill(int64_t /*epoch*/, std::span<const int64_t> /*samples*/,
            SampleBatch& /*batch*/) const override {}

 private:
  std::size_t bytes_;
};

class SizedTask final : public TrainingTask {
 public:
  SizedTask(std::size_t train, std::size_t validation) : train_(train), validation_(validation) {}
  const SampleSource& train() const override { return train_; }
  const SampleSource* validation() const override {
    return validation_.batch_bytes(1) > 0 ? &validation_ : nullptr;
  }
  std::unique_ptr<BatchStage> make_stage(const ExecutionContext& /*ctx*/) const override {
    return nullptr;
  }
  std::unique_ptr<StemObjective> make_objective(const ExecutionContext& /*ctx*/) const override {
    return nullptr;
  }
  std::size_t staged_bytes(int64_t /*samples*/, bool /*on_cpu*/) const override { return 0; }
  void log_audit() const override {}

 private:
  Sized train_, validation_;
};

// Tracks of one side may be stored in 16 bits and one of the other in 32.
TEST(TrainingTask, ABatchIsPlannedAsLargeAsThoseOfEitherSideAre) {
  EXPECT_EQ(SizedTask(2, 4).batch_bytes(8), 32U);
  EXPECT_EQ(SizedTask(4, 2).batch_bytes(8), 32U);
  EXPECT_EQ(SizedTask(2, 0).batch_bytes(8), 16U);  // there is no validation
}

}  // namespace
}  // namespace stemfabric
