#include "trainer/training/snapshot_task.h"

#include "kernels/stem_loss/stem_loss.h"
#include "trainer/training/preflight.h"
#include "trainer/training/training_setup.h"

namespace stemfabric {

struct SnapshotStage::Slot {
  WeightMemory weight;
  Tensor inputs, mask, targets, target_mask;  // not on the CPU
};

namespace {

// A batch stores [B, 6, T, out]; the loss takes the stem first.
ConstTensorView stem_first(const ConstTensorView& rows) {
  const Shape& s = rows.shape();
  const int64_t plane = s[2] * s[3];
  return {rows.data(), rows.dtype(), Shape{s[1], s[0], s[2], s[3]},
          ConstTensorView::Strides{plane, s[1] * plane, s[3], 1}};
}

class SnapshotTask final : public TrainingTask {
 public:
  explicit SnapshotTask(const TrainingSetup& setup) : setup_(setup) {}

  const SampleSource& train() const override { return setup_.train(); }
  const SampleSource* validation() const override { return setup_.validation(); }
  std::unique_ptr<BatchStage> make_stage(const ExecutionContext& ctx) const override {
    return std::make_unique<SnapshotStage>(ctx, setup_.config.loss.stem_weights);
  }
  std::unique_ptr<StemObjective> make_objective(const ExecutionContext& ctx) const override {
    return std::make_unique<SnapshotObjective>(ctx);
  }
  std::size_t staged_bytes(int64_t samples, bool on_cpu) const override {
    return on_cpu ? 0 : setup_.data.train->batch_bytes(samples);
  }
  void log_audit() const override { log_snapshot_audit(setup_); }

 private:
  const TrainingSetup& setup_;
};

}  // namespace

SnapshotStage::SnapshotStage(const ExecutionContext& ctx, const std::vector<double>& stem_weights)
    : BatchStage(ctx, stem_weights) {}

SnapshotStage::~SnapshotStage() = default;

StagedBatch SnapshotStage::put(const SampleBatch& samples) {
  const auto& batch = dynamic_cast<const Batch&>(samples);
  const std::size_t at = take_slot();
  if (at == slots_.size()) {
    slots_.push_back(std::make_unique<Slot>());
  }
  Slot& slot = *slots_[at];
  const auto rows = [&](Tensor& memory, const Tensor& whole) {
    return on_device(memory, whole.shape(), whole.view().slice(0, 0, batch.size));
  };
  return {.size = batch.size,
          .inputs = rows(slot.inputs, batch.inputs),
          .mask = rows(slot.mask, batch.input_mask),
          .weight = weights(slot.weight, batch, batch.stem_weight.as<float>()),
          .targets = stem_first(rows(slot.targets, batch.targets)),
          .target_mask = stem_first(rows(slot.target_mask, batch.target_mask))};
}

void SnapshotObjective::count(const StagedBatch& batch) {
  stem_count(ctx_, {.target_mask = batch.target_mask,
                    .key_mask = batch.mask,
                    .shape = batch.target_mask.shape(),
                    .count = counts()});
}

void SnapshotObjective::run(const StagedBatch& batch, const ConstTensorView& prediction,
                            const ConstTensorView& denominators, const TensorView& gradient) {
  stem_loss(ctx_, {.prediction = prediction,
                   .target = batch.targets,
                   .target_mask = batch.target_mask,
                   .key_mask = batch.mask,
                   .weight = batch.weight,
                   .count = denominators,
                   .gradient = gradient,
                   .loss = loss_sums(),
                   .weighted = weighted_sums()});
}

std::unique_ptr<TrainingTask> make_snapshot_task(const TrainingSetup& setup) {
  return std::make_unique<SnapshotTask>(setup);
}

}  // namespace stemfabric
