// What a kind of training data brings to the trainer: its samples, how a batch of them becomes
// inputs of the model, and what the model's outputs are compared with. The trainer knows nothing
// else of it. Snapshots: snapshot_task.h; audio: audio_task.h.
#pragma once

#include <memory>

#include "runtime/device/execution_context.h"
#include "trainer/config/config.h"
#include "trainer/data/sample_source.h"
#include "trainer/training/batch_stage.h"
#include "trainer/training/output_metric.h"
#include "trainer/training/stem_objective.h"

namespace stemfabric {

struct TrainingSetup;

class TrainingTask {
 public:
  virtual ~TrainingTask() = default;
  TrainingTask(const TrainingTask&) = delete;
  TrainingTask& operator=(const TrainingTask&) = delete;

  virtual const SampleSource& train() const = 0;
  virtual const SampleSource* validation() const = 0;  // null: there is none
  virtual std::unique_ptr<BatchStage> make_stage(const ExecutionContext& ctx) const = 0;
  virtual std::unique_ptr<StemObjective> make_objective(const ExecutionContext& ctx) const = 0;
  // Null: a validation measures the loss alone.
  virtual std::unique_ptr<OutputMetric> make_metric(const ExecutionContext& /*ctx*/) const {
    return nullptr;
  }
  // Host memory of a batch of so many samples, of training or of validation.
  std::size_t batch_bytes(int64_t samples) const;
  // Memory where the ops compute that a stage takes for so many samples, beyond their batches.
  virtual std::size_t staged_bytes(int64_t samples, bool on_cpu) const = 0;
  // Says in the log what the data hold. InputError if nothing can be learned from them.
  virtual void log_audit() const = 0;

 protected:
  TrainingTask() = default;
};

// The setup must outlive the task. resident_bytes: a snapshot data set that takes no more is kept
// on the device; 0 on the CPU.
std::unique_ptr<TrainingTask> make_training_task(const TrainingSetup& setup,
                                                 int64_t resident_bytes = 0);
// A quarter of what is free before anything is taken (`available`, < 0: not known); 0 if
// training.resident_data is off, and on the CPU.
int64_t resident_limit(const TrainingConfig& config, const Device& device, int64_t available);

}  // namespace stemfabric
