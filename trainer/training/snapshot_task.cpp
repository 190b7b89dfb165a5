#include "trainer/training/snapshot_task.h"

#include "kernels/stem_loss/stem_loss.h"
#include "runtime/core/log.h"
#include "trainer/training/preflight.h"
#include "trainer/training/resident_snapshots.h"
#include "trainer/training/training_setup.h"

namespace stemfabric {

struct SnapshotStage::Slot {
  WeightMemory weight;
  Copies inputs, mask, targets, target_mask;  // not on the CPU
};

ConstTensorView stem_first(const ConstTensorView& rows) {
  const Shape& s = rows.shape();
  const int64_t plane = s[2] * s[3];
  return {rows.data(), rows.dtype(), Shape{s[1], s[0], s[2], s[3]},
          ConstTensorView::Strides{plane, s[1] * plane, s[3], 1}};
}

namespace {

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
    return on_cpu ? 0 : 2 * setup_.data.train->batch_bytes(samples);  // one beside the step
  }
  void log_audit() const override { log_snapshot_audit(setup_); }

 private:
  const TrainingSetup& setup_;
};

// The same with the data set on the device.
class ResidentSnapshotTask final : public TrainingTask {
 public:
  explicit ResidentSnapshotTask(const TrainingSetup& setup)
      : setup_(setup), train_(*setup.data.train) {
    if (setup.data.validation) {
      validation_.emplace(*setup.data.validation);
    }
  }

  std::size_t resident_bytes() const {
    return train_.resident_bytes() + (validation_ ? validation_->resident_bytes() : 0);
  }

  const SampleSource& train() const override { return train_; }
  const SampleSource* validation() const override { return validation_ ? &*validation_ : nullptr; }
  std::unique_ptr<BatchStage> make_stage(const ExecutionContext& ctx) const override {
    std::vector<const ResidentSource*> sources = {&train_};
    if (validation_) {
      sources.push_back(&*validation_);
    }
    return std::make_unique<ResidentStage>(ctx, setup_.config.loss.stem_weights, sources);
  }
  std::unique_ptr<StemObjective> make_objective(const ExecutionContext& ctx) const override {
    return std::make_unique<SnapshotObjective>(ctx);
  }
  std::size_t staged_bytes(int64_t samples, bool /*on_cpu*/) const override {
    return resident_bytes() + train_.staged_bytes(samples);
  }
  void log_audit() const override {
    log_snapshot_audit(setup_);
    log_info("the data set is kept on the device: {:.1f} MiB",
             static_cast<double>(resident_bytes()) / (1 << 20));
  }

 private:
  const TrainingSetup& setup_;
  ResidentSource train_;
  std::optional<ResidentSource> validation_;
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
  const auto rows = [&](Copies& memory, const Tensor& whole) {
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

std::unique_ptr<TrainingTask> make_snapshot_task(const TrainingSetup& setup,
                                                 int64_t resident_bytes) {
  if (resident_bytes > 0) {
    auto resident = std::make_unique<ResidentSnapshotTask>(setup);
    if (resident->resident_bytes() <= static_cast<std::size_t>(resident_bytes)) {
      return resident;
    }
  }
  return std::make_unique<SnapshotTask>(setup);
}

}  // namespace stemfabric
