// The outputs of a model of masks (model.mask: real or complex), and what makes spectra of them.
// Formulas: kernels/stem_mask/stem_mask.h.
#pragma once

#include "kernels/stem_mask/stem_mask.h"
#include "runtime/device/execution_context.h"
#include "runtime/memory/buffer.h"
#include "trainer/config/config.h"

namespace stemfabric {

// Outputs per stem and frame: mask_channels · parts · mask_bands; parts are 1 (real) or 2
// (complex).
int64_t mask_outputs(const ModelConfig& config);

class MaskHead {
 public:
  // model.mask must be real or complex, and model.audio must be there. ctx must outlive the head.
  MaskHead(const ExecutionContext& ctx, const ModelConfig& config);

  // prediction [S,B,T,O], mixture [B,C,T,K,2] -> estimate [S,B,C,T,K,2].
  void apply(const ConstTensorView& prediction, const ConstTensorView& mixture,
             const TensorView& estimate) const;
  // The loss with this head's tables and kind, and with its factors of `loss`; what depends on the
  // batch is left open.
  MaskLossArgs loss_args(const LossConfig& loss) const;

 private:
  const ExecutionContext& ctx_;
  MaskKind kind_;
  Tensor band_, fraction_, first_bin_;
};

}  // namespace stemfabric
