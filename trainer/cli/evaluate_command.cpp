// stemfabric evaluate: how well a model separates the records of a data set.
#include <fmt/core.h>

#include <cmath>
#include <memory>
#include <string>

#include "trainer/cli/command.h"
#include "trainer/cli/config_options.h"
#include "trainer/cli/inference_context.h"
#include "trainer/evaluation/evaluate.h"

namespace stemfabric::cli {
namespace {

struct Options {
  ConfigOptions config;
  std::string dataset_dir;
  std::string model;
  std::string output_dir;
  std::string split = "validation";
  std::string batch_size;
  std::string device;
};

std::string cell(const Distribution& d, int digits) {
  return d.count > 0 ? fmt::format("{:.{}f}", d.median, digits) : "-";
}

void print_row(std::string_view name, const MetricDistributions& model,
               const MetricDistributions& mixture, bool has_model, int64_t evaluated) {
  std::string line = fmt::format("{:<10}", name);
  for (std::size_t m = 0; m < kMetricNames.size(); ++m) {
    const int digits = m < 3 ? 1 : 2;
    line += has_model
                ? fmt::format(" {:>7} ({:>6})", cell(model[m], digits), cell(mixture[m], digits))
                : fmt::format(" {:>8}", cell(mixture[m], digits));
  }
  fmt::print("{} {:>9}\n", line, evaluated);
}

void print_summary(const EvaluateResult& result, bool has_model) {
  std::string head = fmt::format("{:<10}", has_model ? "(mixture)" : "mixture");
  for (const char* name : {"SDR dB", "SIR dB", "SAR dB", "overall"}) {
    head += has_model ? fmt::format(" {:>16}", name) : fmt::format(" {:>8}", name);
  }
  const bool audio = !result.oracles.empty();
  fmt::print("{}\n{} {:>9}\n",
             audio ? "Medians over tracks of BSS-Eval v4 (of each track the median of 1 s frames)."
                   : "Medians over records.",
             head, "evaluated");
  int64_t evaluated = 0;
  for (std::size_t s = 0; s < kStemCount; ++s) {
    const StemSummary& stem = result.summary.stems[s];
    print_row(kStemNames[s], stem.model, stem.mixture, has_model, stem.evaluated);
    evaluated += stem.evaluated;
  }
  print_row("all", result.summary.model, result.summary.mixture, has_model, evaluated);
  for (const OracleScores& oracle : result.oracles) {
    std::string line = fmt::format("{:<10} SDR dB:", oracle.name);
    for (std::size_t s = 0; s < kStemCount; ++s) {
      line += fmt::format(" {} {}", kStemNames[s],
                          std::isnan(oracle.sdr[s]) ? "-" : fmt::format("{:.1f}", oracle.sdr[s]));
    }
    fmt::print("{}\n", line);
  }
  if (!result.note.empty()) {
    fmt::print("{}\n", result.note);
  }
  fmt::print("{}\n{}\n", result.json.string(), result.html.string());
}

int run_evaluate(const Options& options) {
  std::vector<ConfigOverride> overrides;
  if (!options.batch_size.empty()) {
    overrides.push_back({"inference.batch_size", options.batch_size, "--batch-size"});
  }
  if (!options.device.empty()) {
    overrides.push_back({"inference.device", options.device, "--device"});
  }
  const Config config = options.config.load(overrides).config;
  const EvaluateResult result =
      evaluate(inference_context(config), {.dataset_dir = options.dataset_dir,
                                           .model = options.model,
                                           .output_dir = options.output_dir,
                                           .split = options.split,
                                           .batch_size = config.inference.batch_size,
                                           .num_overlap = config.inference.num_overlap});
  print_summary(result, !options.model.empty());
  return 0;
}

}  // namespace

void add_evaluate_command(CLI::App& app, Run& run) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "evaluate", "SDR, SIR, SAR of a model per stem, as JSON and as an HTML page");
  command->add_option("--dataset-dir", options->dataset_dir, "Folder made by `stemfabric dataset`")
      ->type_name("DIR")
      ->required();
  command
      ->add_option("--model", options->model,
                   "Weights (.safetensors) or folder of a training run; without it only the "
                   "mixture baseline is evaluated")
      ->type_name("PATH");
  command
      ->add_option("--output-dir", options->output_dir,
                   "Gets evaluation_report.json and report.html; of audio also excerpts, and "
                   "the results of each track, from which an interrupted evaluation goes on")
      ->type_name("DIR")
      ->required();
  command->add_option("--split", options->split, "Which part of the data set")
      ->type_name("train|validation|test");
  command
      ->add_option("--batch-size", options->batch_size,
                   "Records per forward pass (inference.batch_size); tracks go chunk by chunk")
      ->type_name("N")
      ->default_str("as configured");
  command->add_option("--device", options->device, "Where to compute (inference.device)")
      ->type_name("auto|cuda|cpu")
      ->default_str("as configured");
  options->config.add_to(*command);
  command->callback([&run, options] { run = [options] { return run_evaluate(*options); }; });
}

}  // namespace stemfabric::cli
