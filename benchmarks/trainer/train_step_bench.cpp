// One training step of the default model, timed: forward, loss with gradient, backward, gradient
// norm, Adam. Prints one JSON line; --profile adds the time of each part. The same work in PyTorch:
// benchmarks/peers/torch_train_step.py; both side by side: benchmarks/train_step.sh.
#include <fmt/core.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/adam/adam.h"
#include "kernels/reduction/reduction.h"
#include "kernels/stem_loss/stem_loss.h"
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
  bool profile = false;
};

constexpr const char* kUsage =
    "train_step_bench [--batch 8] [--tokens 256] [--threads 1] [--steps 10] [--warmup 2]\n"
    "                 [--attention superposition|superposition_centered|"
    "superposition_normalized|softmax]\n"
    "                 [--dropout 0] [--profile]\n";

Options parse(int argc, char** argv) {
  Options o;
  for (int i = 1; i < argc; ++i) {
    const std::string key = argv[i];
    if (key == "--profile") {
      o.profile = true;
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

void fill_random(const TensorView& view, uint32_t seed) {
  auto* values = view.as<float>();
  for (int64_t i = 0; i < view.elements(); ++i) {
    const PhiloxCounter bits = philox4x32_10({{static_cast<uint32_t>(i), 0, 0, 0}}, {{seed, 0}});
    values[i] = 2 * philox_uniform(bits.word[0]) - 1;
  }
}

class Training {
 public:
  explicit Training(const Options& o)
      : ctx_({.threads = o.threads}),
        model_(ctx_, default_model(o), {.batch = o.batch, .tokens = o.tokens, .training = true}),
        shape_{kStemCount, o.batch, o.tokens, 256},
        inputs_({o.batch, o.tokens, 256}, DType::kF32),
        targets_(shape_, DType::kF32),
        m_(Tensor::zeros(model_.weights().shape(), DType::kF32)),
        v_(Tensor::zeros(model_.weights().shape(), DType::kF32)) {
    model_.parameters().initialize(model_.weights().as<float>(), 1);
    fill_random(inputs_.view(), 2);
    fill_random(targets_.view(), 3);
  }

  void step() {
    ++step_;
    std::memset(model_.gradients().data(), 0, model_.gradients().bytes());
    const ConstTensorView prediction = model_.forward(
        inputs_.view(), {}, true, {.seed = 1, .step = static_cast<uint64_t>(step_), .sample0 = 0});
    compute_loss(prediction);
    model_.backward();
    {
      const TraceScope scope("gradient norm");
      norm_ = sum_squares(ctx_, model_.gradients()).sum;
    }
    const TraceScope scope("adam");
    adam_step(ctx_, {.parameter = model_.weights(),
                     .m = m_.view(),
                     .v = v_.view(),
                     .gradient = model_.gradients(),
                     .step = step_});
  }

  double loss() const { return loss_; }
  double gradient_norm() const { return std::sqrt(norm_); }
  const Separator& model() const { return model_; }

 private:
  void compute_loss(const ConstTensorView& prediction) {
    const TraceScope scope("loss");
    std::vector<double> sums(3 * kStemCount, 0.0);
    const TensorView count(sums.data(), Shape{kStemCount});
    const TensorView loss(sums.data() + kStemCount, Shape{kStemCount});
    const TensorView weighted(sums.data() + 2 * kStemCount, Shape{kStemCount});
    stem_count(ctx_, {.shape = shape_, .count = count});
    stem_loss(ctx_, {.prediction = prediction,
                     .target = targets_.view(),
                     .count = count,
                     .gradient = model_.output_gradient(),
                     .loss = loss,
                     .weighted = weighted});
    loss_ = 0;
    for (int s = 0; s < kStemCount; ++s) {
      loss_ += weighted.as<double>()[s];
    }
  }

  ExecutionContext ctx_;
  Separator model_;
  Shape shape_;
  Tensor inputs_, targets_, m_, v_;
  int64_t step_ = 0;
  double loss_ = 0;
  double norm_ = 0;
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
  Training training(o);
  for (int64_t i = 0; i < o.warmup; ++i) {
    training.step();
  }
  Trace trace;
  if (o.profile) {
    trace.install();
  }
  std::vector<double> milliseconds;
  const double cpu_begin = cpu_milliseconds();
  for (int64_t i = 0; i < o.steps; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    training.step();
    milliseconds.push_back(
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin)
            .count());
  }
  const double cpu = (cpu_milliseconds() - cpu_begin) / static_cast<double>(o.steps);
  std::ranges::sort(milliseconds);
  const double median = milliseconds[milliseconds.size() / 2];
  fmt::print(
      "{{\"what\": \"train_step\", \"implementation\": \"stemfabric\", \"attention\": \"{}\", "
      "\"batch\": {}, \"tokens\": {}, \"threads\": {}, \"dropout\": {}, \"steps\": {}, "
      "\"ms_median\": {:.2f}, \"ms_min\": {:.2f}, \"cpu_ms\": {:.2f}, \"tokens_per_s\": {:.0f}, "
      "\"peak_rss_mb\": {:.0f}, \"activation_mb\": {:.1f}, \"loss\": {:.6f}, "
      "\"gradient_norm\": {:.6f}}}\n",
      o.attention, o.batch, o.tokens, o.threads, o.dropout, o.steps, median, milliseconds.front(),
      cpu, static_cast<double>(o.batch * o.tokens) / median * 1e3, peak_rss_mb(),
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
