// stemfabric dataset: sanitised records in, training shards and a manifest out.
#include <fmt/core.h>

#include <limits>
#include <memory>
#include <string>

#include "trainer/cli/command.h"
#include "trainer/cli/option_values.h"
#include "trainer/data/snapshot_dataset.h"

namespace stemfabric::cli {
namespace {

struct Names {
  std::string layout = "time_grid";
  std::string targets = "samples";
};

int run_dataset(const SnapshotDatasetOptions& options) {
  const SnapshotDatasetSummary summary = build_snapshot_dataset(options);
  fmt::print(
      "{} records: {} for training, {} for validation, {} without stems, {} whose stems "
      "fit no place\n",
      summary.records, summary.train, summary.validation, summary.without_stems,
      summary.without_targets);
  fmt::print("{}: {} tokens of {} features, {} outputs per stem and token, hash {}\n",
             summary.folder.string(), summary.tokens, summary.features, summary.outputs,
             summary.hash.substr(0, 16));
  return 0;
}

}  // namespace

void add_dataset_command(CLI::App& app, Run& run) {
  auto options = std::make_shared<SnapshotDatasetOptions>();
  auto names = std::make_shared<Names>();
  SnapshotDatasetOptions& o = *options;
  CLI::App* command =
      app.add_subcommand("dataset", "Make training shards and a manifest from sanitised records");
  command->add_option("--input", o.input, "Records of `stemfabric sanitize` (*.jsonl)")
      ->type_name("FILE")
      ->required();
  command->add_option("--output-dir", o.output_dir, "Folder for data sets")
      ->type_name("DIR")
      ->required();
  command->add_option("--run-label", o.run_label, "Name of the data set in that folder")
      ->type_name("NAME")
      ->required();
  command->add_option("--train-ratio", o.train_ratio, "Share of the records for training")
      ->check(real_number(0.0, 1.0))
      ->capture_default_str();
  command->add_option("--seed", o.seed, "Seed of the split by id")
      ->check(whole_number(0, std::numeric_limits<int64_t>::max()))
      ->capture_default_str();
  command->add_option("--layout", names->layout, "How a snapshot becomes tokens")
      ->check(one_of({"time_grid", "packed"}))
      ->capture_default_str();
  command->add_option("--targets", names->targets, "What the stems of a snapshot hold")
      ->check(one_of({"samples", "bands"}))
      ->capture_default_str();
  command->add_option("--time-bins", o.tokens.time_bins, "Tokens per snapshot of time_grid")
      ->check(whole_number(1, 4096))
      ->capture_default_str();
  command->add_option("--packed-width", o.tokens.packed_width, "Values per token of packed")
      ->check(whole_number(1, 4096))
      ->capture_default_str();
  command
      ->add_option("--correction-weight", o.tokens.correction_weight,
                   "A correction of strength s raises its stem's weight by this times s")
      ->check(real_number(0.0, std::numeric_limits<double>::infinity()))
      ->capture_default_str();
  command->add_option("--shard-records", o.shard_records, "Samples per shard")
      ->check(whole_number(1, 1'000'000))
      ->capture_default_str();
  command->add_option("--threads", o.threads, "Worker threads; 0 = all cores of this process")
      ->check(whole_number(0, 1024))
      ->capture_default_str();
  command->add_flag("--overwrite", o.overwrite, "Replace a data set of that name");
  command->callback([&run, options, names] {
    run = [options, names] {
      options->tokens.layout = token_layout(names->layout);
      options->tokens.targets = target_kind(names->targets);
      return run_dataset(*options);
    };
  });
}

}  // namespace stemfabric::cli
