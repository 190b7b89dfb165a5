// Adds up the gradients of all ranks while the backward pass still runs: as soon as so many bytes
// of the gradient block are final, their sum is started; it goes on whenever the next one is.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "runtime/collectives/collectives.h"
#include "runtime/core/tensor_view.h"

namespace stemfabric {

class GradientReducer {
 public:
  // `gradients`: the whole block, contiguous [n] f32 in host memory. Its elements below `kernels`
  // become final from the last to the first (backward goes against the data flow, in which the
  // block is laid out); all others count as final in finish() only. `bucket_bytes`: least size of a
  // sum that is started before that. Both references must outlive the reducer.
  GradientReducer(Collectives& ranks, const TensorView& gradients, int64_t kernels,
                  int64_t bucket_bytes);

  // Of step `step`, whose name the sums carry; nothing is under way then.
  void begin(int64_t step);
  // The gradients of elements [from, kernels) are final.
  void kernels_are_final(int64_t from);
  // All gradients are final: waits until all of them are sums. A CollectiveError leaves them
  // undefined.
  void finish();

  int64_t started() const { return started_; }  // sums of the present step so far

 private:
  void start(int64_t begin, int64_t end);

  Collectives& ranks_;
  TensorView gradients_;
  int64_t kernels_;
  int64_t bucket_elements_;
  int64_t reduced_from_;  // elements [reduced_from_, kernels_) were started
  int64_t started_ = 0;
  int64_t step_ = 0;
  std::vector<std::unique_ptr<Collectives::Pending>> pending_;
};

}  // namespace stemfabric
