// One training step of the default model, timed: forward, loss with gradient, backward, gradient
// norm, Adam. Prints one JSON line; --profile adds the time of each part. The same work in PyTorch:
// benchmarks/peers/torch_train_step.py; both side by side: benchmarks/train_step.sh. The batch lies
// on the device; on a GPU the host runs ahead and times come from events between the steps.
#include <fmt/core.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/adam/adam.h"
#include "kernels/reduction/reduction.h"
#include "kernels/stem_loss/stem_loss.h"
#include "kernels/step_control/step_control.h"
#include "runtime/device/device_choice.h"
#include "runtime/memory/host_access.h"
#include "runtime/memory/tracking_resource.h"
#include "runtime/profile/trace.h"
#include "trainer/model/separator.h"

namespace stemfabric {
namespace {

struct Options {
  int64_t batch = 8;
  int64_t tokens = 256;
  int threads = 1;
  int64_t steps = 10;
  int64_t warmup = 2;
  std::string attention = "superposition";
  double dropout = 0.0;
  std::string device = "cpu";
  std::string precision = "fp32";
  bool cudnn = false;
  bool profile = false;
};

constexpr const char* kUsage =
    "train_step_bench [--device cpu|cuda] [--batch 8] [--tokens 256] [--threads 1]\n"
    "                 [--steps 10] [--warmup 2]\n"
    "                 [--attention superposition|superposition_centered|"
    "superposition_normalized|softmax]\n"
    "                 [--dropout 0] [--precision fp32|bf16] [--cudnn] [--profile]\n";

Options parse(int argc, char** argv) {
  Options o;
  for (int i = 1; i < argc; ++i) {
    const std::string key = argv[i];
    if (key == "--profile") {
      o.profile = true;
      continue;
    }
    if (key == "--cudnn") {
      o.cudnn = true;
      continue;
    }
    if (i + 1 == argc) {
      throw UsageError("'{}' is unknown or lacks its value\n{}", key, kUsage);
    }
    const char* value = argv[++i];
    if (key == "--batch") {
      o.batch = std::atoll(value);
    } else if (key == "--tokens") {
      o.tokens = std::atoll(value);
    } else if (key == "--threads") {
      o.threads = std::atoi(value);
    } else if (key == "--steps") {
      o.steps = std::max(1LL, std::atoll(value));
    } else if (key == "--warmup") {
      o.warmup = std::atoll(value);
    } else if (key == "--attention") {
      o.attention = value;
    } else if (key == "--device") {
      o.device = value;
      if (o.device != "cpu" && o.device != "cuda") {
        throw UsageError("--device {}: give cpu or cuda\n{}", o.device, kUsage);
      }
    } else if (key == "--precision") {
      o.precision = value;
      if (o.precision != "fp32" && o.precision != "bf16") {
        throw UsageError("--precision {}: give fp32 or bf16\n{}", o.precision, kUsage);
      }
    } else if (key == "--dropout") {
      o.dropout = std::atof(value);
    } else {
      throw UsageError("unknown option '{}'\n{}", key, kUsage);
    }
  }
  return o;
}

ModelConfig default_model(const Options& o) {
  ModelConfig c;
  c.input_dim = c.output_dim = 256;
  c.max_sequence_length = o.tokens;
  c.attn_dropout = c.ff_dropout = o.dropout;
  c.attention.activation = o.attention;
  return c;
}

void fill_random(const TensorView& host, uint32_t seed) {
  auto* values = host.as<float>();
  for (int64_t i = 0; i < host.elements(); ++i) {
    const PhiloxCounter bits = philox4x32_10({{static_cast<uint32_t>(i), 0, 0, 0}}, {{seed, 0}});
    values[i] = 2 * philox_uniform(bits.word[0]) - 1;
  }
}

class Training {
 public:
  Training(const Options& o, const DeviceInfo& device)
      : resource_(default_resource(device.device)),
        ctx_({.device = device.device, .threads = o.threads, .resource = &resource_}),
        model_(ctx_, default_model(o),
               {.batch = o.batch,
                .tokens = o.tokens,
                .training = true,
                .precision = precision_dtype(o.precision),
                .cudnn = o.cudnn}),
        shape_{kStemCount, o.batch, o.tokens, 256},
        inputs_(device_tensor({o.batch, o.tokens, 256}, DType::kF32)),
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

  // Queues one step; nothing of it is waited for.
  void step() {
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

  // Of the last step; waits for it.
  double loss() const {
    const HostView host(ctx_, sums_.view());
    double loss = 0;
    for (int s = 0; s < kStemCount; ++s) {
      loss += host.as<double>()[2 * kStemCount + s];
    }
    return loss;
  }
  double gradient_norm() const {
    return HostView(ctx_, control_.view()).as<double>()[kGate + 2];  // NaN: see step_control.h
  }
  const Separator& model() const { return model_; }
  const ExecutionContext& context() const { return ctx_; }
  double memory_mb() const {
    return static_cast<double>(resource_.statistics().peak_bytes) / (1 << 20);
  }

 private:
  // Where in control_.
  enum Control : int64_t { kSquares = 0, kGate = 3, kScalars = 6, kLr = 9, kSteps = 10, kControls };

  Tensor device_tensor(const Shape& shape, DType dtype) {
    Tensor tensor(shape, dtype, resource_, "benchmark");
    fill_zero(tensor.view());
    return tensor;
  }
  void fill_zero(const TensorView& view) { ctx_.stream().fill(view.data(), 0, view.bytes()); }
  TensorView control(Control first, int64_t count) {
    return {control_.as<double>() + first, Shape{count}};
  }
  TensorView sums(int which) {  // count, loss, weighted
    return {sums_.as<double>() + which * kStemCount, Shape{kStemCount}};
  }
  void compute_loss(const ConstTensorView& prediction) {
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

  TrackingResource resource_;
  ExecutionContext ctx_;
  Separator model_;
  Shape shape_;
  Tensor inputs_, targets_, m_, v_, sums_, control_;
  int64_t step_ = 0;
};

// Processor time of the process so far, all threads.
double cpu_milliseconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto of = [](const timeval& t) {
    return 1e3 * static_cast<double>(t.tv_sec) + 1e-3 * static_cast<double>(t.tv_usec);
  };
  return of(usage.ru_utime) + of(usage.ru_stime);
}

double peak_rss_mb() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

void print_profile(const Trace& trace, int64_t steps) {
  double total = 0;
  for (const auto& row : trace.rows()) {
    total += row.seconds;
  }
  for (const auto& row : trace.rows()) {
    fmt::print("  {:<36} {:8.2f} ms {:5.1f} %  {:.0f} calls\n", row.name,
               row.seconds * 1e3 / static_cast<double>(steps), 100 * row.seconds / total,
               static_cast<double>(row.calls) / static_cast<double>(steps));
  }
  fmt::print("  {:<36} {:8.2f} ms\n", "sum", total * 1e3 / static_cast<double>(steps));
}

void run(const Options& o) {
  const DeviceSurvey survey =
      o.device == "cpu" ? DeviceSurvey{.devices = {cpu_info()}} : survey_devices();
  const DeviceInfo device = choose_device(o.device, "--device", survey);
  Training training(o, device);
  for (int64_t i = 0; i < o.warmup; ++i) {
    training.step();
  }
  Stream& stream = training.context().stream();
  stream.synchronize();
  Trace trace;
  if (o.profile) {
    trace.install();
  }
  const double cpu_begin = cpu_milliseconds();
  std::vector<std::unique_ptr<Event>> events;
  events.push_back(stream.record());
  for (int64_t i = 0; i < o.steps; ++i) {
    training.step();
    events.push_back(stream.record());
  }
  events.back()->synchronize();
  if (!std::isfinite(training.gradient_norm())) {
    throw NumericError("the gradient of the last step is not finite; nothing to report");
  }
  const double cpu = (cpu_milliseconds() - cpu_begin) / static_cast<double>(o.steps);
  std::vector<double> milliseconds;
  for (std::size_t i = 1; i < events.size(); ++i) {
    milliseconds.push_back(1e3 * events[i]->seconds_since(*events[i - 1]));
  }
  std::ranges::sort(milliseconds);
  const double median = milliseconds[milliseconds.size() / 2];
  fmt::print(
      "{{\"what\": \"train_step\", \"implementation\": \"stemfabric\", \"device\": \"{}\", "
      "\"precision\": \"{}\", \"attention\": \"{}\", "
      "\"batch\": {}, \"tokens\": {}, \"threads\": {}, \"dropout\": {}, \"steps\": {}, "
      "\"ms_median\": {:.3f}, \"ms_min\": {:.3f}, \"cpu_ms\": {:.2f}, \"tokens_per_s\": {:.0f}, "
      "\"peak_rss_mb\": {:.0f}, \"memory_mb\": {:.1f}, \"activation_mb\": {:.1f}, "
      "\"loss\": {:.6f}, \"gradient_norm\": {:.6f}}}\n",
      device.name, o.precision, o.attention, o.batch, o.tokens, o.threads, o.dropout, o.steps,
      median, milliseconds.front(), cpu, static_cast<double>(o.batch * o.tokens) / median * 1e3,
      peak_rss_mb(), training.memory_mb(),
      static_cast<double>(training.model().activation_bytes()) / (1 << 20), training.loss(),
      training.gradient_norm());
  if (o.profile) {
    print_profile(trace, o.steps);
  }
}

}  // namespace
}  // namespace stemfabric

int main(int argc, char** argv) {
  try {
    stemfabric::run(stemfabric::parse(argc, argv));
  } catch (const stemfabric::Error& e) {
    fmt::print(stderr, "train_step_bench: {}\n", e.what());
    return stemfabric::exit_status(e.kind());
  }
  return 0;
}
