// The six heads: out_s = Wout_s · q(relu(Whidden_s z + b)) + b. The hidden layers are one product
// with the fused [dim, 6·dim] kernel; the six output layers, each of its column slice, are one call
// with a batched product.
#pragma once

#include "trainer/config/config.h"
#include "trainer/model/activation_plan.h"
#include "trainer/model/model_pass.h"
#include "trainer/stems.h"

namespace stemfabric {

class StemHeads {
 public:
  StemHeads(const ModelConfig& config, const ParameterBlocks& blocks,
            const HeadActivations& activations);

  // Both [6, B, T, out].
  TensorView output(const ModelPass& pass) const;
  TensorView output_gradient(const ModelPass& pass) const;

  void forward(const ModelPass& pass, const ConstTensorView& input) const;
  // From output_gradient(); d_input [M, dim] is written.
  void backward(const ModelPass& pass, const ConstTensorView& input,
                const TensorView& d_input) const;

 private:
  int64_t dim_;
  int64_t output_dim_;
  HeadActivations activations_;
  DenseParameters hidden_;
  DenseParameters output_;  // [6, dim, out] and [6, out]
};

}  // namespace stemfabric
