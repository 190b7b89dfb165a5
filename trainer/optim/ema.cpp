#include "trainer/optim/ema.h"

#include <algorithm>
#include <exception>

#include "kernels/adam/adam.h"
#include "runtime/core/log.h"

namespace stemfabric {

Ema::Ema(const ExecutionContext& ctx, double momentum, const ConstTensorView& weights)
    : momentum_(momentum),
      average_(weights.shape(), DType::kF32, ctx.resource(), "moving average of the weights") {
  ctx.stream().copy(average_.view().data(), weights.data(), average_.bytes());
}

void Ema::update(const ExecutionContext& ctx, const ConstTensorView& weights,
                 const ConstTensorView& gate) {
  ema_update(
      ctx, {.average = average_.view(), .parameter = weights, .momentum = momentum_, .gate = gate});
}

EmaSwap::EmaSwap(const ExecutionContext& ctx, Ema* ema, const TensorView& weights)
    : ctx_(ctx), ema_(ema), weights_(weights) {
  swap();
}

EmaSwap::~EmaSwap() {
  try {
    swap();
  } catch (const std::exception& error) {
    // Only a device that has failed for good gets here; the next call to it says so again.
    log_error("the weights could not be put back in their place: {}", error.what());
  }
}

void EmaSwap::swap() {
  if (ema_ == nullptr) {
    return;
  }
  if (ctx_.is_cpu()) {
    float* weights = weights_.as<float>();
    std::swap_ranges(weights, weights + weights_.elements(), ema_->average().as<float>());
    return;
  }
  // In pieces, so that a few megabytes of scratch will do.
  constexpr std::size_t kPiece = std::size_t{4} << 20;
  auto* a = static_cast<std::byte*>(weights_.data());
  auto* b = static_cast<std::byte*>(ema_->average().data());
  WorkspaceScope scope(ctx_.workspace());
  auto* piece = scope.take<std::byte>(static_cast<int64_t>(std::min(kPiece, weights_.bytes())));
  for (std::size_t at = 0; at < weights_.bytes(); at += kPiece) {
    const std::size_t bytes = std::min(kPiece, weights_.bytes() - at);
    ctx_.stream().copy(piece, a + at, bytes);
    ctx_.stream().copy(a + at, b + at, bytes);
    ctx_.stream().copy(b + at, piece, bytes);
  }
}

}  // namespace stemfabric
