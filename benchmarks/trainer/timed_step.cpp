#include "benchmarks/trainer/timed_step.h"

#include <sys/resource.h>

#include <algorithm>
#include <vector>

#include "kernels/adam/adam.h"
#include "kernels/common/philox.h"
#include "kernels/reduction/reduction.h"
#include "kernels/stem_loss/stem_loss.h"
#include "kernels/step_control/step_control.h"
#include "runtime/memory/host_access.h"
#include "runtime/profile/trace.h"

namespace stemfabric::benchmarks {
namespace {

void fill_random(const TensorView& host, uint32_t seed) {
  auto* values = host.as<float>();
  for (int64_t i = 0; i < host.elements(); ++i) {
    const PhiloxCounter bits = philox4x32_10({{static_cast<uint32_t>(i), 0, 0, 0}}, {{seed, 0}});
    values[i] = 2 * philox_uniform(bits.word[0]) - 1;
  }
}

// Processor time of the process so far, all threads.
double cpu_milliseconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto of = [](const timeval& t) {
    return 1e3 * static_cast<double>(t.tv_sec) + 1e-3 * static_cast<double>(t.tv_usec);
  };
  return of(usage.ru_utime) + of(usage.ru_stime);
}

}  // namespace

TimedStep::TimedStep(const ExecutionContext& ctx, const ModelConfig& model, const Options& options)
    : ctx_(ctx),
      model_(ctx, model,
             {.batch = options.batch,
              .tokens = options.tokens,
              .training = true,
              .precision = options.precision,
              .cudnn = options.cudnn,
              .relu_masks = !ctx.is_cpu()}),
      shape_{kStemCount, options.batch, options.tokens, model.output_dim},
      inputs_(device_tensor({options.batch, options.tokens, model.input_dim}, DType::kF32)),
      targets_(device_tensor(shape_, DType::kF32)),
      m_(device_tensor(model_.weights().shape(), DType::kF32)),
      v_(device_tensor(model_.weights().shape(), DType::kF32)),
      sums_(device_tensor({3 * kStemCount}, DType::kF64)),
      control_(device_tensor({kControls}, DType::kF64)) {
  write_on_host(ctx_, model_.weights(), [&](const TensorView& host) {
    model_.parameters().initialize(host.as<float>(), 1);
  });
  write_on_host(ctx_, inputs_.view(), [](const TensorView& host) { fill_random(host, 2); });
  write_on_host(ctx_, targets_.view(), [](const TensorView& host) { fill_random(host, 3); });
  const double lr = 1e-3;
  copy_from_host(ctx_, control(kLr, 1), &lr);
}

Tensor TimedStep::device_tensor(const Shape& shape, DType dtype) {
  Tensor tensor(shape, dtype, ctx_.resource(), "benchmark");
  fill_zero(tensor.view());
  return tensor;
}

TensorView TimedStep::sums(int which) {
  return {sums_.as<double>() + which * kStemCount, Shape{kStemCount}};
}

void TimedStep::run() {
  ++step_;
  fill_zero(model_.gradients());
  const ConstTensorView prediction = model_.forward(
      inputs_.view(), {}, true, {.seed = 1, .step = static_cast<uint64_t>(step_), .sample0 = 0});
  compute_loss(prediction);
  model_.backward();
  {
    const TraceScope scope("gradient norm");
    sum_squares_into(ctx_, {.x = model_.gradients(), .result = control(kSquares, 3)});
  }
  const TraceScope scope("adam");
  step_control(ctx_, {.squares = control(kSquares, 3),
                      .loss = sums(1),
                      .weighted = sums(2),
                      .gate = control(kGate, 3),
                      .lr = control(kLr, 1),
                      .steps = control(kSteps, 1),
                      .scalars = control(kScalars, 3)});
  adam_step(ctx_, {.parameter = model_.weights(),
                   .m = m_.view(),
                   .v = v_.view(),
                   .gradient = model_.gradients(),
                   .gate = control(kGate, 3),
                   .scalars = control(kScalars, 3)});
}

void TimedStep::compute_loss(const ConstTensorView& prediction) {
  const TraceScope scope("loss");
  fill_zero(sums_.view());
  stem_count(ctx_, {.shape = shape_, .count = sums(0)});
  stem_loss(ctx_, {.prediction = prediction,
                   .target = targets_.view(),
                   .count = sums(0),
                   .gradient = model_.output_gradient(),
                   .loss = sums(1),
                   .weighted = sums(2)});
}

double TimedStep::loss() const {
  const HostView host(ctx_, sums_.view());
  double loss = 0;
  for (int s = 0; s < kStemCount; ++s) {
    loss += host.as<double>()[2 * kStemCount + s];
  }
  return loss;
}

double TimedStep::gradient_norm() const {
  return HostView(ctx_, control_.view()).as<double>()[kGate + 2];
}

StepTimes time_steps(Stream& stream, int64_t steps, const std::function<void()>& run) {
  const double cpu_begin = cpu_milliseconds();
  std::vector<std::unique_ptr<Event>> events;
  events.push_back(stream.record());
  for (int64_t i = 0; i < steps; ++i) {
    run();
    events.push_back(stream.record());
  }
  events.back()->synchronize();
  const double cpu = (cpu_milliseconds() - cpu_begin) / static_cast<double>(steps);
  std::vector<double> milliseconds;
  for (std::size_t i = 1; i < events.size(); ++i) {
    milliseconds.push_back(1e3 * events[i]->seconds_since(*events[i - 1]));
  }
  std::ranges::sort(milliseconds);
  return {
      .median = milliseconds[milliseconds.size() / 2], .least = milliseconds.front(), .cpu = cpu};
}

std::unique_ptr<Graph> captured(Stream& stream, TimedStep& step) {
  return stream.can_capture() ? stream.capture([&] { step.run(); }) : nullptr;
}

}  // namespace stemfabric::benchmarks
