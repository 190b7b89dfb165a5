// stemfabric run: sanitize -> dataset -> train -> evaluate, from one command.
#include <fmt/core.h>

#include <memory>

#include "runtime/collectives/mpi_transport.h"
#include "runtime/core/check.h"
#include "runtime/core/progress.h"
#include "trainer/cli/command.h"
#include "trainer/cli/config_options.h"
#include "trainer/pipeline/pipeline.h"

namespace stemfabric::cli {
namespace {

struct Options {
  ConfigOptions config;
  std::string snapshot_dir;
  std::string output_dir;
  std::string run_label;
  std::string train_ratio;
  std::string targets;
  std::string resume = "auto";
};

void print_summary(const PipelineResult& result) {
  const SanitizeCounts& sanitize = result.sanitize;
  fmt::print("snapshots   {} accepted ({} repaired), {} refused, {} duplicates\n",
             sanitize.accepted, sanitize.repaired, sanitize.refused, sanitize.duplicates);
  const DatasetCounts& dataset = result.dataset;
  fmt::print("data set    {} for training, {} for validation, {} without usable stems\n",
             dataset.train, dataset.validation, dataset.without_targets);
  const TrainingResult& training = result.training;
  fmt::print("training    {} epochs, {} steps, {} ({}){}\n", training.epochs, training.steps,
             format_duration(training.seconds), end_name(training.end),
             training.validation_loss
                 ? ", best validation loss " + format_number(*training.validation_loss)
                 : "");
}

// "  -3.21 (  0.00)": the model and, in brackets, the mixture; "-" where nothing was evaluated.
std::string score_cell(const MetricDistributions& model, const MetricDistributions& mixture,
                       std::size_t metric) {
  if (model[metric].count == 0) {
    return fmt::format("{:>17}", "-");
  }
  return fmt::format("{:>8.2f} ({:>6.2f})", model[metric].median, mixture[metric].median);
}

void print_scores(const PipelineResult& result) {
  const EvaluationSummary& summary = result.evaluation.summary;
  const auto print_row = [](std::string_view name, const MetricDistributions& model,
                            const MetricDistributions& mixture) {
    fmt::print("{:<10}", name);
    for (std::size_t metric = 0; metric < kMetricNames.size(); ++metric) {
      fmt::print("{}", score_cell(model, mixture, metric));
    }
    fmt::print("\n");
  };
  fmt::print("\nmedians over the {} records; in brackets the mixture itself as the estimate\n",
             result.evaluated_split == "train" ? "training" : "validation");
  fmt::print("{:<10}{:>17}{:>17}{:>17}{:>17}\n", "stem", "SDR dB", "SIR dB", "SAR dB", "overall");
  for (std::size_t s = 0; s < kStemCount; ++s) {
    print_row(kStemNames[s], summary.stems[s].model, summary.stems[s].mixture);
  }
  print_row("all", summary.model, summary.mixture);
  if (!result.evaluation.note.empty()) {
    fmt::print("\n{}\n", result.evaluation.note);
  }
  fmt::print("\nreport      {}\n", result.evaluation.html.string());
}

int run_run(const Options& options) {
  if (const RankEnvironment ranks = rank_environment(); ranks.size > 1) {
    throw UsageError(
        "{} started this command {} times; only `train` works on several ranks: make the data set "
        "in one process, and train on it",
        ranks.launcher, ranks.size);
  }
  std::vector<ConfigOverride> overrides;
  if (!options.train_ratio.empty()) {
    overrides.push_back({"data.train_ratio", options.train_ratio, "--train-ratio"});
  }
  if (!options.targets.empty()) {
    overrides.push_back({"data.snapshot_targets", options.targets, "--targets"});
  }
  const LoadedConfig config = options.config.load(overrides);
  const PipelineResult result = run_pipeline({.snapshot_dir = options.snapshot_dir,
                                              .output_dir = options.output_dir,
                                              .run_label = options.run_label,
                                              .config = config,
                                              .resume = options.resume});
  print_summary(result);
  if (result.training.end == TrainingResult::End::kInterrupted) {
    fmt::print("stopped by a signal after saving a checkpoint; run the same command again\n");
    return kExitInterrupted;
  }
  print_scores(result);
  return 0;
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
  command
      ->add_option("--targets", options->targets,
                   "What the stems of the snapshots hold (data.snapshot_targets)")
      ->type_name("samples|bands")
      ->default_str("as configured, samples");
  command
      ->add_option("--resume", options->resume,
                   "Of the training: auto, from its newest whole checkpoint, if any; never, start "
                   "over (what was trained is moved aside); or the folder of a checkpoint")
      ->type_name("auto|never|PATH");
  options->config.add_to(*command);
  command->callback([&run, options] { run = [options] { return run_run(*options); }; });
}

}  // namespace stemfabric::cli
