// stemfabric dataset: sanitised records or multi-track audio in, a data set out; or one is checked.
#include <fmt/core.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "runtime/core/check.h"
#include "runtime/io/file.h"
#include "trainer/audio_data/audio_builder.h"
#include "trainer/audio_data/audio_dataset.h"
#include "trainer/cli/command.h"
#include "trainer/cli/config_options.h"
#include "trainer/cli/option_values.h"
#include "trainer/config/suggest.h"
#include "trainer/data/dataset.h"
#include "trainer/data/snapshot_dataset.h"

namespace stemfabric::cli {
namespace {

// What the command line says; which of it counts depends on --input or --audio.
struct DatasetArguments {
  SnapshotDatasetOptions snapshots;
  std::string layout;  // empty: the default of the kind
  std::string targets = "samples";
  std::string audio;
  std::string audit;
  std::string check;  // a data set to check; nothing is made then
  ConfigOptions config;
};

int make_snapshot_dataset(DatasetArguments& arguments) {
  const std::vector<std::string> layouts = {"time_grid", "packed"};
  if (arguments.layout.empty()) {
    arguments.layout = layouts.front();
  }
  if (std::ranges::find(layouts, arguments.layout) == layouts.end()) {
    throw UsageError("--layout {} is none of records; there are {}{}", arguments.layout,
                     comma_list(layouts), did_you_mean(arguments.layout, layouts));
  }
  SnapshotDatasetOptions& options = arguments.snapshots;
  options.tokens.layout = token_layout(arguments.layout);
  options.tokens.targets = target_kind(arguments.targets);
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

void show_audit(const AudioAudit& audit, const std::string& file) {
  if (audit.tracks.empty()) {
    return;
  }
  fmt::print("{}", audit_table(audit));
  if (!file.empty()) {
    write_text_file(file, audit_text(audit));
  }
}

int make_audio_dataset(const DatasetArguments& arguments, const CLI::App& command) {
  std::vector<ConfigOverride> last;
  const auto take = [&](const char* option, const char* key) {
    if (const CLI::Option* given = command.get_option(option); given->count() > 0) {
      last.push_back({key, given->as<std::string>()});
    }
  };
  take("--train-ratio", "data.train_ratio");
  take("--seed", "data.split_seed");
  const SnapshotDatasetOptions& shared = arguments.snapshots;
  const AudioDatasetOptions options = {
      .root = arguments.audio,
      .layout = track_layout(arguments.layout.empty() ? "auto" : arguments.layout),
      .output_dir = shared.output_dir,
      .run_label = shared.run_label,
      .config = arguments.config.load(last).config,
      .overwrite = shared.overwrite,
      .threads = shared.threads};
  AudioAudit audit;
  AudioDatasetSummary summary;
  try {
    summary = build_audio_dataset(options, audit);
  } catch (const InputError&) {
    show_audit(audit, arguments.audit);  // says why no track can be used
    throw;
  }
  show_audit(audit, arguments.audit);
  fmt::print(
      "{} tracks: {} for training, {} for validation, {} for tests, {} left out; {} reused\n",
      audit.tracks.size(), summary.train, summary.validation, summary.test, summary.left_out,
      summary.reused);
  fmt::print("{}: layout {}, {} Hz, hash {}\n", summary.folder.string(), audit.layout,
             audit.sample_rate, summary.hash.substr(0, 16));
  return 0;
}

int check_dataset(const std::string& root) {
  const auto print = [&](const char* state, std::size_t count, const char* of,
                         const std::string& hash) {
    fmt::print("{}: {}, {} {}, hash {}\n", root, state, count, of, hash.substr(0, 16));
  };
  if (is_audio_dataset(root)) {
    const AudioDatasetFolder folder = open_audio_dataset(root);
    check_content(folder);
    print("intact", folder.train.size() + folder.validation.size() + folder.test.size(), "tracks",
          folder.hash);
    return 0;
  }
  const DatasetFolder folder = open_dataset(root);  // reads and hashes every shard
  const int64_t samples =
      folder.train->size() + (folder.validation ? folder.validation->size() : 0);
  print(folder.manifest.empty() ? "readable, with no manifest.json to compare it with" : "intact",
        static_cast<std::size_t>(samples), "samples", folder.hash);
  return 0;
}

void add_record_options(CLI::App& command, DatasetArguments& arguments) {
  SnapshotDatasetOptions& o = arguments.snapshots;
  const char* group = "Records";
  command.add_option("--targets", arguments.targets, "What the stems of a snapshot hold")
      ->check(one_of({"samples", "bands"}))
      ->capture_default_str()
      ->group(group);
  command.add_option("--time-bins", o.tokens.time_bins, "Tokens per snapshot of time_grid")
      ->check(whole_number(1, 4096))
      ->capture_default_str()
      ->group(group);
  command.add_option("--packed-width", o.tokens.packed_width, "Values per token of packed")
      ->check(whole_number(1, 4096))
      ->capture_default_str()
      ->group(group);
  command
      .add_option("--correction-weight", o.tokens.correction_weight,
                  "A correction of strength s raises its stem's weight by this times s")
      ->check(real_number(0.0, std::numeric_limits<double>::infinity()))
      ->capture_default_str()
      ->group(group);
  command.add_option("--shard-records", o.shard_records, "Samples per shard")
      ->check(whole_number(1, 1'000'000))
      ->capture_default_str()
      ->group(group);
}

// What only one kind of data set has is refused with the other.
void refuse_options_of(const char* with, const CLI::App& command,
                       std::initializer_list<const char*> options) {
  for (const char* option : options) {
    if (command.get_option(option)->count() > 0) {
      throw UsageError("{} has no meaning with {}", option, with);
    }
  }
}

int run_dataset(DatasetArguments& arguments, const CLI::App& command) {
  if (!arguments.check.empty()) {
    for (const CLI::Option* option : command.get_options()) {
      if (option->count() > 0 && !option->check_name("--check")) {
        throw UsageError("{} has no meaning with --check", option->get_name());
      }
    }
    return check_dataset(arguments.check);
  }
  for (const char* option : {"--output-dir", "--run-label"}) {
    if (command.get_option(option)->count() == 0) {
      throw UsageError("{} is required", option);
    }
  }
  if (arguments.audio.empty() == arguments.snapshots.input.empty()) {
    throw UsageError("give either --input FILE (records) or --audio PATH (multi-track audio)");
  }
  if (arguments.audio.empty()) {
    refuse_options_of("--input", command, {"--audit", "--config", "--set"});
    return make_snapshot_dataset(arguments);
  }
  refuse_options_of(
      "--audio", command,
      {"--targets", "--time-bins", "--packed-width", "--correction-weight", "--shard-records"});
  return make_audio_dataset(arguments, command);
}

}  // namespace

void add_dataset_command(CLI::App& app, Run& run) {
  auto arguments = std::make_shared<DatasetArguments>();
  SnapshotDatasetOptions& o = arguments->snapshots;
  CLI::App* command = app.add_subcommand(
      "dataset", "Make a data set from sanitised records or multi-track audio, or check one");
  command->add_option("--input", o.input, "Records of `stemfabric sanitize` (*.jsonl)")
      ->type_name("FILE");
  command
      ->add_option("--audio", arguments->audio, "Folder of multi-track audio, or a table (*.csv)")
      ->type_name("PATH");
  command
      ->add_option("--check", arguments->check,
                   "Make nothing: compare the files of this data set with its manifest")
      ->type_name("DIR");
  command->add_option("--output-dir", o.output_dir, "Folder for data sets; required to make one")
      ->type_name("DIR");
  command
      ->add_option("--run-label", o.run_label,
                   "Name of the data set in that folder; required to make one")
      ->type_name("NAME");
  command->add_option("--train-ratio", o.train_ratio, "Share of the records or tracks for training")
      ->check(real_number(0.0, 1.0))
      ->capture_default_str();
  command->add_option("--seed", o.seed, "Seed of the split by id")
      ->check(whole_number(0, std::numeric_limits<int64_t>::max()))
      ->capture_default_str();
  command
      ->add_option(
          "--layout", arguments->layout,
          "How a snapshot becomes tokens: time_grid (default), packed; how the audio lies: " +
              comma_list(track_layout_names()))
      ->type_name("NAME");
  command->add_option("--threads", o.threads, "Worker threads; 0 = all cores of this process")
      ->check(whole_number(0, 1024))
      ->capture_default_str();
  command->add_flag("--overwrite", o.overwrite, "Replace a data set of that name");
  add_record_options(*command, *arguments);
  command->add_option("--audit", arguments->audit, "Write what was found in the audio as JSON")
      ->type_name("FILE");
  arguments->config.add_to(*command);
  command->callback([&run, arguments, command] {
    run = [arguments, command] { return run_dataset(*arguments, *command); };
  });
}

}  // namespace stemfabric::cli
