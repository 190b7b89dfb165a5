// Batches where the ops of a context read them: on the CPU the batch itself, elsewhere a copy in
// the device's memory, in buffers that are used again from step to step.
#pragma once

#include <memory>
#include <vector>

#include "runtime/device/execution_context.h"
#include "trainer/data/dataset.h"
#include "trainer/training/training_state.h"

namespace stemfabric {

struct StagedBatch {
  int64_t size = 0;                      // B
  ConstTensorView inputs, mask;          // [B,T,F], [B,T]
  ConstTensorView targets, target_mask;  // [6,B,T,out], strided: a batch stores the sample first
  ConstTensorView weight;                // [B,6] f32: the sample's times the stem's
};

class BatchStage {
 public:
  // Factors of the stems in the loss (loss.stem_weights). ctx must outlive the stage.
  BatchStage(const ExecutionContext& ctx, const std::vector<double>& stem_weights);
  ~BatchStage();
  BatchStage(const BatchStage&) = delete;
  BatchStage& operator=(const BatchStage&) = delete;

  // What it gives, and the batch, must be kept until the stream has done all that reads them.
  StagedBatch put(const Batch& batch);
  // What is put from now on takes the place of what was put before: on a device in the order of the
  // stream, on the host that of two releases ago, which the stream must have done with.
  void release() {
    used_ = 0;
    turn_ = 1 - turn_;
  }

 private:
  struct Slot;
  const ExecutionContext& ctx_;
  StemValues stem_weights_{};
  std::vector<std::unique_ptr<Slot>> slots_;
  std::size_t used_ = 0;
  std::size_t turn_ = 0;
};

}  // namespace stemfabric
