// Training on snapshots: the model's outputs are values of the stems, compared with targets of
// which some are supervised.
#pragma once

#include <memory>
#include <vector>

#include "trainer/data/dataset.h"
#include "trainer/training/batch_stage.h"
#include "trainer/training/stem_objective.h"
#include "trainer/training/training_task.h"

namespace stemfabric {

// Batches of a Dataset: on the CPU the batch itself, elsewhere a copy in the device's memory.
class SnapshotStage final : public BatchStage {
 public:
  SnapshotStage(const ExecutionContext& ctx, const std::vector<double>& stem_weights);
  ~SnapshotStage() override;
  StagedBatch put(const SampleBatch& batch) override;

 private:
  struct Slot;
  std::vector<std::unique_ptr<Slot>> slots_;
};

// The rows of a batch [B,6,T,out] as the loss takes them, the stem first.
ConstTensorView stem_first(const ConstTensorView& rows);

// Per stem the mean squared error over present elements (kernels/stem_loss).
class SnapshotObjective final : public StemObjective {
 public:
  explicit SnapshotObjective(const ExecutionContext& ctx) : StemObjective(ctx) {}
  void count(const StagedBatch& batch) override;

 private:
  void run(const StagedBatch& batch, const ConstTensorView& prediction,
           const ConstTensorView& denominators, const TensorView& gradient) override;
};

// The setup must outlive the task. resident_bytes: see make_training_task().
std::unique_ptr<TrainingTask> make_snapshot_task(const TrainingSetup& setup,
                                                 int64_t resident_bytes);

}  // namespace stemfabric
