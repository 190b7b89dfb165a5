#include "trainer/optim/optimizer.h"

namespace stemfabric {

Optimizer::Optimizer(const ExecutionContext& ctx, const Options& options, int64_t elements,
                     int64_t decayed)
    : options_(options),
      decayed_(decayed),
      m_(Shape{elements}, DType::kF32, ctx.resource(), "first moment"),
      v_(Shape{elements}, DType::kF32, ctx.resource(), "second moment") {
  SF_CHECK(decayed >= 0 && decayed <= elements, "decayed {} of {}", decayed, elements);
  ctx.stream().fill(m_.view().data(), 0, m_.bytes());
  ctx.stream().fill(v_.view().data(), 0, v_.bytes());
}

void Optimizer::step(const ExecutionContext& ctx, const TensorView& weights,
                     const ConstTensorView& gradients, double lr, double grad_scale) {
  ++steps_;
  const auto part = [&](int64_t begin, int64_t size, double weight_decay) {
    if (size == 0) {
      return;
    }
    adam_step(ctx, {.parameter = weights.slice(0, begin, size),
                    .m = m_.view().slice(0, begin, size),
                    .v = v_.view().slice(0, begin, size),
                    .gradient = gradients.slice(0, begin, size),
                    .step = steps_,
                    .lr = lr,
                    .beta1 = options_.beta1,
                    .beta2 = options_.beta2,
                    .epsilon = options_.epsilon,
                    .weight_decay = weight_decay,
                    .decoupled = options_.decoupled,
                    .form = options_.form,
                    .grad_scale = grad_scale});
  };
  if (options_.weight_decay == 0) {
    part(0, m_.elements(), 0);
    return;
  }
  part(0, decayed_, options_.weight_decay);
  part(decayed_, m_.elements() - decayed_, 0);
}

Optimizer::Options optimizer_options(const TrainingConfig& config) {
  return {.decoupled = config.optimizer == "adamw",
          .form = config.adam_form == "keras" ? AdamForm::kKeras : AdamForm::kTorch,
          .beta1 = config.beta1,
          .beta2 = config.beta2,
          .epsilon = config.adam_epsilon,
          .weight_decay = config.weight_decay};
}

}  // namespace stemfabric
