// stemfabric bench --plan: the work of one training step, kernel by kernel, counted.
#include <fmt/core.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "kernels/stft/stft.h"
#include "kernels/stft_features/stft_features.h"
#include "runtime/core/check.h"
#include "trainer/cli/command.h"
#include "trainer/cli/config_options.h"
#include "trainer/cli/option_values.h"
#include "trainer/model/mask_head.h"
#include "trainer/model/step_work.h"

namespace stemfabric::cli {
namespace {

struct BenchOptions {
  ConfigOptions config;
  bool plan = false;
  bool json = false;
  int64_t tokens = 0;
  int64_t features = 256;
  double teraflops = 0;
  double gigabytes_per_second = 0;
};

int64_t tokens_of(const Config& config, const BenchOptions& options) {
  constexpr int64_t kUsual = 512;
  return options.tokens > 0 ? options.tokens
         : config.model.mask == "none"
             ? kUsual
             : stft_frames(config.audio.chunk_size, config.audio.hop_length);
}

// The sizes that a data set would give, where the configuration leaves them open.
ModelConfig sized(const Config& config, const BenchOptions& options, int64_t tokens) {
  ModelConfig model = config.model;
  if (model.mask != "none") {
    model.audio = config.audio;
    model.input_dim = kAudioFeatures;
    model.output_dim = mask_outputs(model);
  }
  if (model.input_dim == 0) {
    model.input_dim = options.features;
  }
  if (model.output_dim == 0) {
    model.output_dim = options.features;
  }
  if (model.max_sequence_length == 0) {
    model.max_sequence_length = tokens;
  }
  if (tokens > model.max_sequence_length) {
    throw UsageError("--tokens {} is more than model.max_sequence_length ({})", tokens,
                     model.max_sequence_length);
  }
  return model;
}

bool has_peaks(const BenchOptions& options) { return options.teraflops > 0; }

// The least times that a device of these peaks needs for all calls, and what sets the floor.
struct Floor {
  FloorSeconds seconds;
  const char* bound = "";
};
Floor floor_of(const KernelWork& work, const BenchOptions& options) {
  const double flops_per_s = options.teraflops * 1e12;
  const double bytes_per_s = options.gigabytes_per_second * 1e9;
  return {floor_seconds(work, flops_per_s, bytes_per_s),
          work.flops / flops_per_s > work.bytes / bytes_per_s ? "arithmetic" : "memory"};
}

void print_table(const std::vector<KernelWork>& work, const BenchOptions& options) {
  const bool floor = has_peaks(options);
  fmt::print("{:<36} {:>5} {:>10} {:>10} {:>10} {:>10}{}\n", "kernel", "calls", "least", "ours",
             "MB", "FLOP/byte", floor ? "   floor us    ours us  bound by" : "");
  KernelWork total{.kernel = "whole step", .calls = 1};
  FloorSeconds seconds;
  const auto row = [&](const KernelWork& w, const Floor& at_least) {
    fmt::print("{:<36} {:>5} {:>10.3f} {:>10.3f} {:>10.3f} {:>10.1f}", w.kernel, w.calls,
               w.flops / 1e9, w.our_flops / 1e9, w.bytes / 1e6, w.flops / w.bytes);
    fmt::print("{}\n", floor ? fmt::format(" {:>10.1f} {:>10.1f}  {}", at_least.seconds.least * 1e6,
                                           at_least.seconds.ours * 1e6, at_least.bound)
                             : "");
  };
  for (const KernelWork& w : work) {
    const auto calls = static_cast<double>(w.calls);
    total.our_flops += calls * w.our_flops;
    total.flops += calls * w.flops;
    total.bytes += calls * w.bytes;
    const Floor at_least = floor ? floor_of(w, options) : Floor{};
    seconds.least += at_least.seconds.least;
    seconds.ours += at_least.seconds.ours;
    row(w, at_least);
  }
  row(total, {.seconds = seconds});
}

void print_json(const std::vector<KernelWork>& work, const BenchOptions& options) {
  auto kernels = nlohmann::json::array();
  for (const KernelWork& w : work) {
    kernels.push_back({{"kernel", w.kernel},
                       {"calls", w.calls},
                       {"flops", w.flops},
                       {"our_flops", w.our_flops},
                       {"bytes", w.bytes}});
    if (has_peaks(options)) {
      const Floor at_least = floor_of(w, options);
      kernels.back()["floor_us"] = at_least.seconds.least * 1e6;
      kernels.back()["our_floor_us"] = at_least.seconds.ours * 1e6;
      kernels.back()["bound_by"] = at_least.bound;
    }
  }
  fmt::print("{}\n", nlohmann::json{{"kernels", kernels}}.dump());
}

int run_bench(const BenchOptions& options) {
  if (!options.plan) {
    throw UsageError(
        "bench needs --plan: it counts the work of a training step; to time one, build and run "
        "the programs described in benchmarks/README.md");
  }
  if ((options.teraflops > 0) != (options.gigabytes_per_second > 0)) {
    throw UsageError("--tflops and --gb-per-s are the two peaks of one device; give both");
  }
  const LoadedConfig loaded = options.config.load();
  const TrainingConfig& training = loaded.config.training;
  const int64_t tokens = tokens_of(loaded.config, options);
  const ModelConfig model = sized(loaded.config, options, tokens);
  const std::vector<KernelWork> work =
      training_step_work(model, training,
                         {.batch = training.batch_size,
                          .tokens = tokens,
                          .accumulation = training.gradient_accumulation_steps});
  if (options.json) {
    print_json(work, options);
    return 0;
  }
  fmt::print(
      "One training step: {} x {} samples of {} tokens, {}. Counted, not measured.\n"
      "Of one call: the least GFLOP that the formulas need, those that our kernels take, and the "
      "least MB that must be moved.{}\n\n",
      training.gradient_accumulation_steps, training.batch_size, tokens, training.precision,
      has_peaks(options) ? " Of all calls: the floor, from the least, and that of our kernels."
                         : "");
  print_table(work, options);
  return 0;
}

}  // namespace

void add_bench_command(CLI::App& app, Run& run) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* command = app.add_subcommand(
      "bench", "The work of a training step: operations and bytes of every kernel");
  command->add_flag("--plan", options->plan, "Count the work of the configuration's step");
  options->config.add_to(*command);
  command
      ->add_option("--tokens", options->tokens,
                   "Tokens per sample; else 512, or for a model of masks the frames of "
                   "audio.chunk_size")
      ->check(whole_number(1, int64_t{1} << 20));
  command
      ->add_option("--features", options->features,
                   "Features and outputs per token where the configuration leaves them to the data")
      ->default_val(256)
      ->check(whole_number(1, 65536));
  command
      ->add_option("--tflops", options->teraflops,
                   "Peak of a device in TFLOP/s; with --gb-per-s, prints the floor of each kernel")
      ->check(real_number(1e-6, 1e9));
  command->add_option("--gb-per-s", options->gigabytes_per_second, "Peak memory rate in GB/s")
      ->check(real_number(1e-6, 1e9));
  command->add_flag("--json", options->json,
                    "Print one JSON object; the floor of each kernel's calls is in floor_us, the "
                    "one of our kernels in our_floor_us");
  command->callback([&run, options] { run = [options] { return run_bench(*options); }; });
}

}  // namespace stemfabric::cli
