// Batches where the ops of a context read them, and what the ops need that is made of them: in
// buffers that are used again from step to step.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "runtime/device/execution_context.h"
#include "runtime/memory/buffer.h"
#include "trainer/data/sample_source.h"
#include "trainer/training/training_state.h"

namespace stemfabric {

// The model's inputs of a micro-batch, and what its objective compares the outputs with. What a
// kind of data does not have is absent.
struct StagedBatch {
  int64_t size = 0;              // B; 0: a rank's share of few samples, nothing else is there
  int64_t first_in_step = 0;     // see SampleBatch
  int64_t of_all_ranks = 0;      // likewise
  ConstTensorView inputs, mask;  // [B,T,F], [B,T]
  ConstTensorView weight;        // [B,6] f32: the sample's times the stem's
  // Snapshots: [6,B,T,out], strided (a batch stores the sample first). Audio: spectra of the stems
  // [6,B,2,T,K,2], no mask of elements.
  ConstTensorView targets, target_mask;
  // Audio: spectra [B,2,T,K,2] of the mixture, which stems a sample has [B,6] u8, and their signals
  // [B,6,2,N].
  ConstTensorView mixture, present, signals;

  // All that a step reads, in this order.
  std::array<ConstTensorView, 8> views() const {
    return {inputs, mask, weight, targets, target_mask, mixture, present, signals};
  }
};

class BatchStage {
 public:
  virtual ~BatchStage() = default;
  BatchStage(const BatchStage&) = delete;
  BatchStage& operator=(const BatchStage&) = delete;

  // What it gives, and the batch, must be kept until the stream has done all that reads them.
  virtual StagedBatch put(const SampleBatch& batch) = 0;
  // What is put from now on takes the place of what was put two releases ago: on a device once its
  // stream has done with that, on the host at once, so the stream must have done with it.
  void release();
  // Which of the two places it is, 0 or 1.
  std::size_t turn() const { return turn_; }

 protected:
  // What is copied to a device, in turn: one is copied while the other is read.
  using Copies = std::array<Tensor, 2>;

  // Factors of the stems in the loss (loss.stem_weights). ctx must outlive the stage.
  BatchStage(const ExecutionContext& ctx, const std::vector<double>& stem_weights);

  // [size,6] on the device: sample weights [size,6] (null: all 1) times the stems'.
  struct WeightMemory {
    std::array<Tensor, 2> host;  // on the CPU what the ops read, elsewhere what is copied; in turn
    Copies device;
  };
  ConstTensorView weights(WeightMemory& memory, const SampleBatch& batch,
                          const float* sample_weight);
  // On the CPU the rows themselves; elsewhere a copy in `memory`, which grows to `capacity`. It is
  // made on a stream of its own, beside the step before; later work of the context's waits for it.
  ConstTensorView on_device(Copies& memory, const Shape& capacity, const ConstTensorView& rows);
  std::size_t take_slot() { return used_++; }

  const ExecutionContext& ctx_;

 private:
  StemValues stem_weights_{};
  std::unique_ptr<Stream> copies_;              // not on the CPU
  std::array<std::unique_ptr<Event>, 2> read_;  // what was put in a turn, by all that reads it
  std::size_t used_ = 0;
  std::size_t turn_ = 0;
};

}  // namespace stemfabric
