#include "trainer/optim/ema.h"

#include <algorithm>
#include <cstring>

#include "kernels/adam/adam.h"

namespace stemfabric {

Ema::Ema(const ExecutionContext& ctx, double momentum, const ConstTensorView& weights)
    : momentum_(momentum),
      average_(weights.shape(), DType::kF32, ctx.resource(), "moving average of the weights") {
  SF_CHECK(ctx.is_cpu(), "the moving average is initialised on the CPU only");
  std::memcpy(average_.as<float>(), weights.as<float>(), average_.bytes());
}

void Ema::update(const ExecutionContext& ctx, const ConstTensorView& weights) {
  ema_update(ctx, {.average = average_.view(), .parameter = weights, .momentum = momentum_});
}

EmaSwap::EmaSwap(Ema* ema, const TensorView& weights) : ema_(ema), weights_(weights) { swap(); }

EmaSwap::~EmaSwap() { swap(); }

void EmaSwap::swap() {
  if (ema_ != nullptr) {
    float* weights = weights_.as<float>();
    std::swap_ranges(weights, weights + weights_.elements(), ema_->average().as<float>());
  }
}

}  // namespace stemfabric
