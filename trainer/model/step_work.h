// What one training step has to do: for each kernel of the step how often it runs, how many
// floating-point operations it takes and how many bytes it must move at least (every input read
// once, every output written once; which tensors are bf16 where that is configured, says
// activation_plan.h). With a device's peaks this gives the floor of the time. Counted from the
// sizes alone; nothing is measured. `stemfabric bench --plan` prints it.
#pragma once

#include <string>
#include <vector>

#include "trainer/config/config.h"

namespace stemfabric {

struct KernelWork {
  std::string kernel;
  int64_t calls = 0;  // per step
  // Of one call:
  double flops = 0;      // at least
  double bytes = 0;      // at least
  double our_flops = 0;  // as our kernel takes them: more where it repeats some
};

struct StepSize {
  int64_t batch = 1;   // samples per micro-batch
  int64_t tokens = 1;  // per sample
  int64_t accumulation = 1;
};

// In the order in which the kernels run first. All sizes of the model must be set; of a model of
// masks, `audio` too: its tokens are the frames of (tokens − 1) · hop_length samples. Attention, if
// it keeps no matrix of T · T numbers, needs 2 products forward and 5 backward: the scores once
// more, dG, dQ, dK and dV. Our CUDA kernels take (docs/attention.md) 7 backward; forward
//   float32   2 for the scores and 3 with values (softmax: 1)
//   bf16      1 for the scores and 4 with values (softmax: 1; with dropout of weights: 5). Where
//             warps share their queries (head dimensions above 64; with dropout, 32), each forms
//             the scores. Not counted: products with ones, 8 columns for each one with values.
std::vector<KernelWork> training_step_work(const ModelConfig& model, const TrainingConfig& training,
                                           const StepSize& size);

// Seconds below which no kernel for the same work can be on a device with these peaks, and below
// which ours cannot.
struct FloorSeconds {
  double least = 0;
  double ours = 0;
};
inline FloorSeconds floor_seconds(const KernelWork& work, double flops_per_second,
                                  double bytes_per_second) {
  const double memory = work.bytes / bytes_per_second;
  const auto of = [&](double flops) {
    const double compute = flops / flops_per_second;
    return static_cast<double>(work.calls) * (compute > memory ? compute : memory);
  };
  return {of(work.flops), of(work.our_flops)};
}

}  // namespace stemfabric
