// stemfabric run: sanitize -> dataset -> train -> evaluate, from one command.
#include <fmt/core.h>

#include <memory>

#include "trainer/cli/command.h"
#include "trainer/cli/config_options.h"
#include "trainer/pipeline/pipeline.h"

namespace stemfabric::cli {
namespace {

constexpr int kExitInterrupted = 75;  // EX_TEMPFAIL: run the same command again

struct Options {
  ConfigOptions config;
  std::string snapshot_dir;
  std::string output_dir;
  std::string run_label;
  std::string train_ratio;
};

void print_summary(const PipelineResult& result) {
  const SanitizeCounts& sanitize = result.sanitize;
  fmt::print("snapshots   {} accepted ({} repaired), {} refused, {} duplicates\n",
             sanitize.accepted, sanitize.repaired, sanitize.refused, sanitize.duplicates);
  const DatasetCounts& dataset = result.dataset;
  fmt::print("data set    {} for training, {} for validation, {} without usable stems\n",
             dataset.train, dataset.validation, dataset.without_targets);
}

int run_run(const Options& options) {
  std::vector<ConfigOverride> overrides;
  if (!options.train_ratio.empty()) {
    overrides.push_back({"data.train_ratio", options.train_ratio, "--train-ratio"});
  }
  const PipelineResult result = run_pipeline({.snapshot_dir = options.snapshot_dir,
                                              .output_dir = options.output_dir,
                                              .run_label = options.run_label,
                                              .config = options.config.load(overrides)});
  print_summary(result);
  return result.training.end == TrainingResult::End::kInterrupted ? kExitInterrupted : 0;
}

}  // namespace

void add_run_command(CLI::App& app, Run& run) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "run", "From exported snapshots to an evaluated model: sanitize, dataset, train, evaluate");
  command
      ->add_option("--snapshot-dir", options->snapshot_dir,
                   "Folder with *.json and *.jsonl of the Studio (searched recursively)")
      ->type_name("DIR")
      ->required();
  command->add_option("--output-dir", options->output_dir, "Folder for runs")
      ->type_name("DIR")
      ->required();
  command
      ->add_option("--run-label", options->run_label,
                   "Name of the run in that folder; with the same name again, it goes on")
      ->type_name("NAME")
      ->required();
  command
      ->add_option("--train-ratio", options->train_ratio,
                   "Share of the records for training (data.train_ratio)")
      ->type_name("X")
      ->default_str("as configured, 0.8");
  options->config.add_to(*command);
  command->callback([&run, options] { run = [options] { return run_run(*options); }; });
}

}  // namespace stemfabric::cli
