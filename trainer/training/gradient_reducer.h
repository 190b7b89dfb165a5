// Adds up the gradients of all ranks while the backward pass still runs: as soon as so many bytes
// of the gradient block are final, their sum is started; on the CPU it goes on whenever the next
// one is, on a device beside the work of the step.
#pragma once

#include <cstdint>

#include "runtime/core/tensor_view.h"
#include "runtime/device/execution_context.h"
#include "runtime/memory/buffer.h"
#include "trainer/training/step_sums.h"

namespace stemfabric {

class GradientReducer {
 public:
  struct Options {
    int64_t bucket_bytes = 1 << 22;  // least size of a sum that is started before finish()
    DType dtype = DType::kF32;       // of what is sent and added: f32, or bf16 in half the bytes
  };
  // `gradients`: the whole block, contiguous [n] f32 where ctx computes. Its elements below
  // `kernels` become final from the last to the first (backward goes against the data flow, in
  // which the block is laid out); all others count as final in finish() only. All must outlive the
  // reducer.
  GradientReducer(const ExecutionContext& ctx, StepSums& sums, const TensorView& gradients,
                  int64_t kernels, const Options& options);

  // A step begins; nothing is under way then.
  void begin();
  // The gradients of elements [from, kernels) are final, once the stream has come so far.
  void kernels_are_final(int64_t from);
  // All gradients are final: what follows finds the sums of all of them.
  void finish();

  int64_t started() const { return started_; }  // buckets of the present step so far

 private:
  void start(int64_t begin, int64_t end);

  const ExecutionContext& ctx_;
  StepSums& sums_;
  TensorView gradients_;
  Tensor rounded_;  // the block as it is sent, if not in f32
  int64_t kernels_;
  int64_t bucket_elements_;
  int64_t reduced_from_;  // elements [reduced_from_, kernels_) were started
  int64_t started_ = 0;
};

}  // namespace stemfabric
