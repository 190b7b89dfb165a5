// One training step of the default model, timed: forward, loss with gradient, backward, gradient
// norm, Adam. Prints one JSON line; --profile adds the time of each part. The same work in PyTorch:
// benchmarks/peers/torch_train_step.py; both side by side: benchmarks/train_step.sh. The batch lies
// on the device; on a GPU the host runs ahead and times come from events between the steps, once
// with kernels that are launched one by one and once with the step as one graph.
#include <fmt/core.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>

#include "benchmarks/trainer/timed_step.h"
#include "runtime/device/device_choice.h"
#include "runtime/memory/tracking_resource.h"
#include "runtime/profile/trace.h"
#if SF_HAVE_CUDA
#include "kernels/attention/attention_cudnn.h"
#endif

namespace stemfabric::benchmarks {
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

double peak_rss_mb() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

// Of steps of their own: the scopes' events would disturb those that are timed.
void print_profile(Stream& stream, TimedStep& step, int64_t steps) {
  Trace trace;
  trace.install(stream);
  for (int64_t i = 0; i < steps; ++i) {
    step.run();
  }
  double total = 0;
  for (const auto& row : trace.rows()) {
    total += row.seconds;
  }
  for (const auto& row : trace.rows()) {
    fmt::print("  {:<36} {:8.3f} ms {:5.1f} %  {:.0f} calls\n", row.name,
               row.seconds * 1e3 / static_cast<double>(steps), 100 * row.seconds / total,
               static_cast<double>(row.calls) / static_cast<double>(steps));
  }
  fmt::print("  {:<36} {:8.3f} ms\n", "sum", total * 1e3 / static_cast<double>(steps));
}

double finite_gradient_norm(const TimedStep& step) {
  const double norm = step.gradient_norm();
  if (!std::isfinite(norm)) {
    throw NumericError("the gradient of the last step is not finite; nothing to report");
  }
  return norm;
}

// Who computed the attention, as far as the steps so far tell.
std::string attention_by() {
#if SF_HAVE_CUDA
  const std::string version = cuda::cudnn_attention_version();
  if (!version.empty()) {
    return "cudnn " + version;
  }
#endif
  return "stemfabric";
}

// `, "ms_graph": …` of the step as one graph; nothing where there is none.
std::string graph_field(Stream& stream, TimedStep& step, int64_t steps) {
  std::unique_ptr<Graph> graph;
  try {
    graph = captured(stream, step);
  } catch (const DeviceError& error) {
    fmt::print(stderr, "train_step_bench: the step was not captured: {}\n", error.what());
  }
  if (graph == nullptr) {
    return "";
  }
  graph->launch();
  const StepTimes times = time_steps(stream, steps, [&] { graph->launch(); });
  finite_gradient_norm(step);
  return fmt::format(", \"ms_graph\": {:.3f}", times.median);
}

void run(const Options& o) {
  const DeviceSurvey survey =
      o.device == "cpu" ? DeviceSurvey{.devices = {cpu_info()}} : survey_devices();
  const DeviceInfo device = choose_device(o.device, "--device", survey);
  TrackingResource resource(default_resource(device.device));
  const ExecutionContext ctx(
      {.device = device.device, .threads = o.threads, .resource = &resource});
  TimedStep step(ctx, default_model(o),
                 {.batch = o.batch,
                  .tokens = o.tokens,
                  .precision = precision_dtype(o.precision),
                  .cudnn = o.cudnn});
  for (int64_t i = 0; i < o.warmup; ++i) {
    step.run();
  }
  Stream& stream = ctx.stream();
  stream.synchronize();
  const StepTimes times = time_steps(stream, o.steps, [&] { step.run(); });
  const double norm = finite_gradient_norm(step);
  const double loss = step.loss();
  const double rss = peak_rss_mb();
  const std::string graph = graph_field(stream, step, o.steps);
  fmt::print(
      "{{\"what\": \"train_step\", \"implementation\": \"stemfabric\", \"device\": \"{}\", "
      "\"precision\": \"{}\", \"attention\": \"{}\", \"attention_by\": \"{}\", "
      "\"batch\": {}, \"tokens\": {}, \"threads\": {}, \"dropout\": {}, \"steps\": {}, "
      "\"ms_median\": {:.3f}, \"ms_min\": {:.3f}{}, \"cpu_ms\": {:.2f}, \"tokens_per_s\": {:.0f}, "
      "\"peak_rss_mb\": {:.0f}, \"memory_mb\": {:.1f}, \"activation_mb\": {:.1f}, "
      "\"loss\": {:.6f}, \"gradient_norm\": {:.6f}}}\n",
      device.name, o.precision, o.attention, attention_by(), o.batch, o.tokens, o.threads,
      o.dropout, o.steps, times.median, times.least, graph, times.cpu,
      static_cast<double>(o.batch * o.tokens) / times.median * 1e3, rss,
      static_cast<double>(resource.statistics().peak_bytes) / (1 << 20),
      static_cast<double>(step.model().activation_bytes()) / (1 << 20), loss, norm);
  if (o.profile) {
    print_profile(stream, step, o.steps);
  }
}

}  // namespace
}  // namespace stemfabric::benchmarks

int main(int argc, char** argv) {
  try {
    stemfabric::benchmarks::run(stemfabric::benchmarks::parse(argc, argv));
  } catch (const stemfabric::Error& e) {
    fmt::print(stderr, "train_step_bench: {}\n", e.what());
    return stemfabric::exit_status(e.kind());
  }
  return 0;
}
