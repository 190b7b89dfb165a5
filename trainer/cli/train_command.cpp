// stemfabric train: from a data set folder to a run folder with a trained model.
#include <fmt/core.h>

#include <memory>
#include <string>
#include <vector>

#include "runtime/collectives/mpi_transport.h"
#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "runtime/core/progress.h"
#include "trainer/cli/command.h"
#include "trainer/cli/config_options.h"
#include "trainer/training/training.h"

namespace stemfabric::cli {
namespace {

struct Options {
  ConfigOptions config;
  std::string dataset_dir;
  std::string output_dir = "out/train";
  std::string epochs;
  std::string batch_size;
  std::string learning_rate;
  std::string device;
  std::string resume = "auto";
  bool dry_run = false;
};

// A path as a YAML text that reads as exactly this string.
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
    }
    out += c;
  }
  return out + "\"";
}

// The options that stand for keys of the configuration; their texts are checked as those are.
std::vector<ConfigOverride> overrides(const Options& options) {
  std::vector<ConfigOverride> list;
  const auto add = [&](const char* key, const std::string& value, const char* option) {
    if (!value.empty()) {
      list.push_back({.key = key, .value = value, .origin = option});
    }
  };
  if (!options.dataset_dir.empty()) {
    add("data.dataset_dir", quoted(options.dataset_dir), "--dataset-dir");
  }
  add("training.num_epochs", options.epochs, "--epochs");
  add("training.batch_size", options.batch_size, "--batch-size");
  add("training.lr", options.learning_rate, "--learning-rate");
  add("training.device", options.device, "--device");
  return list;
}

// Where a GPU waits for a sum that never comes, giving back its memory would wait too.
void end_with_devices(const Error& error) {
  log_error("{}", error.what());
  leave_ranks(exit_status(error.kind()), /*in_order=*/false);
}

// The ranks that this process was started among, if it was. Rank 0 speaks for all.
std::unique_ptr<Collectives> join(const DistributedConfig& config) {
  std::unique_ptr<Transport> transport = join_ranks();
  if (transport == nullptr) {
    return nullptr;
  }
  const int rank = transport->rank();
  const int size = transport->size();
  if (rank > 0) {
    set_log_origin(fmt::format("rank {}", rank));
    set_log_level(LogLevel::kError);
    set_progress_enabled(false);
  } else {
    log_info("{} ranks: {}, its sums in {}", size, mpi_library(),
             config.deterministic ? "the order of the ranks" : "the order that MPI chooses");
  }
  return std::make_unique<Collectives>(std::move(transport),
                                       Collectives::Options{.timeout_s = config.timeout_s,
                                                            .ordered = config.deterministic,
                                                            .interrupted = {},
                                                            .devices_failed = end_with_devices});
}

int run_train(const Options& options) {
  const LoadedConfig config = options.config.load(overrides(options));
  const std::unique_ptr<Collectives> ranks = join(config.config.distributed);
  const TrainingResult result = run_training(config, {.output_dir = options.output_dir,
                                                      .resume = options.resume,
                                                      .dry_run = options.dry_run,
                                                      .ranks = ranks.get()});
  return result.end == TrainingResult::End::kInterrupted ? kExitInterrupted : 0;
}

}  // namespace

void add_train_command(CLI::App& app, Run& run) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "train", "Train a model on a data set folder; run it again to go on after a stop");
  options->config.add_to(*command);
  command
      ->add_option("--dataset-dir", options->dataset_dir,
                   "Folder made by `stemfabric dataset` (data.dataset_dir)")
      ->type_name("DIR")
      ->default_str("as configured");
  command
      ->add_option("--output-dir", options->output_dir,
                   "Run folder: checkpoints, metrics, final model")
      ->type_name("DIR");
  command->add_option("--epochs", options->epochs, "Most epochs (training.num_epochs)")
      ->type_name("N")
      ->default_str("as configured");
  command
      ->add_option("--batch-size", options->batch_size, "Samples per batch (training.batch_size)")
      ->type_name("N")
      ->default_str("as configured");
  command->add_option("--learning-rate", options->learning_rate, "Learning rate (training.lr)")
      ->type_name("X")
      ->default_str("as configured");
  command->add_option("--device", options->device, "Where to train (training.device)")
      ->type_name("auto|cuda|cpu")
      ->default_str("as configured");
  command
      ->add_option("--resume", options->resume,
                   "auto: from the newest whole checkpoint of the run folder, if any; never: start "
                   "over (an earlier run is moved aside); or the folder of a checkpoint")
      ->type_name("auto|never|PATH");
  command->add_flag("--dry-run", options->dry_run, "Checks and one step; writes nothing");
  command->callback([&run, options] { run = [options] { return run_train(*options); }; });
}

}  // namespace stemfabric::cli
