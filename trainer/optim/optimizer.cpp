#include "trainer/optim/optimizer.h"

#include "kernels/step_control/step_control.h"
#include "runtime/memory/host_access.h"

namespace stemfabric {
namespace {

// Where the numbers of a step lie in the control block, and how many there are.
struct Part {
  int64_t begin, size;
};
constexpr Part kLr{0, 1};
constexpr Part kSteps{1, 1};
constexpr Part kGate{2, 3};
constexpr Part kScalars{5, 3};
constexpr int64_t kControlSize = 8;

template <typename View>
View part_of(const View& control, Part part) {
  return control.slice(0, part.begin, part.size);
}

}  // namespace

Optimizer::Optimizer(const ExecutionContext& ctx, const Options& options, int64_t elements,
                     int64_t decayed)
    : options_(options),
      decayed_(decayed),
      m_(Shape{elements}, DType::kF32, ctx.resource(), "first moment"),
      v_(Shape{elements}, DType::kF32, ctx.resource(), "second moment"),
      control_(Shape{kControlSize}, DType::kF64, ctx.resource(), "numbers of the step") {
  SF_CHECK(decayed >= 0 && decayed <= elements, "decayed {} of {}", decayed, elements);
  ctx.stream().fill(m_.view().data(), 0, m_.bytes());
  ctx.stream().fill(v_.view().data(), 0, v_.bytes());
  ctx.stream().fill(control_.view().data(), 0, control_.bytes());
}

void Optimizer::set_lr(const ExecutionContext& ctx, const double* lr) {
  ctx.stream().copy(part_of(control_.view(), kLr).data(), lr, sizeof *lr);
}

void Optimizer::step(const ExecutionContext& ctx, const TensorView& weights,
                     const ConstTensorView& gradients, const Decision& decision) {
  const TensorView control = control_.view();
  step_control(ctx, {.squares = decision.squares,
                     .loss = decision.loss,
                     .weighted = decision.weighted,
                     .clip = decision.clip,
                     .gate = part_of(control, kGate),
                     .lr = part_of(control, kLr),
                     .beta1 = options_.beta1,
                     .beta2 = options_.beta2,
                     .steps = part_of(control, kSteps),
                     .scalars = part_of(control, kScalars)});
  const auto part = [&](int64_t begin, int64_t size, double weight_decay) {
    if (size == 0) {
      return;
    }
    adam_step(ctx, {.parameter = weights.slice(0, begin, size),
                    .m = m_.view().slice(0, begin, size),
                    .v = v_.view().slice(0, begin, size),
                    .gradient = gradients.slice(0, begin, size),
                    .beta1 = options_.beta1,
                    .beta2 = options_.beta2,
                    .epsilon = options_.epsilon,
                    .weight_decay = weight_decay,
                    .decoupled = options_.decoupled,
                    .form = options_.form,
                    .gate = part_of(control, kGate),
                    .scalars = part_of(control, kScalars)});
  };
  if (options_.weight_decay == 0) {
    part(0, m_.elements(), 0);
    return;
  }
  part(0, decayed_, options_.weight_decay);
  part(decayed_, m_.elements() - decayed_, 0);
}

ConstTensorView Optimizer::gate() const { return part_of(control_.view(), kGate); }

int64_t Optimizer::steps(const ExecutionContext& ctx) const {
  double steps = 0;
  copy_to_host(ctx, &steps, part_of(control_.view(), kSteps));
  return static_cast<int64_t>(steps);
}

void Optimizer::set_steps(const ExecutionContext& ctx, int64_t steps) {
  const auto value = static_cast<double>(steps);
  copy_from_host(ctx, part_of(control_.view(), kSteps), &value);
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
