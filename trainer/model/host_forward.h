// Inference for inputs and outputs that are host memory, whatever device the model is on.
#pragma once

#include "runtime/memory/buffer.h"
#include "trainer/model/separator.h"

namespace stemfabric {

class HostForward {
 public:
  explicit HostForward(Separator& model) : model_(model) {}

  // inputs [B,T,F] f32, mask [B,T] u8 or absent, as Separator::forward takes them. Returns
  // [6,B,T,out] f32, valid until the next call.
  ConstTensorView operator()(const ConstTensorView& inputs, const ConstTensorView& mask);

 private:
  ConstTensorView on_device(Tensor& memory, const ConstTensorView& host);

  Separator& model_;
  Tensor inputs_, mask_, outputs_;  // not on the CPU
};

}  // namespace stemfabric
