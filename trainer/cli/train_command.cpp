// stemfabric train: from a data set folder to a run folder with a trained model.
#include <fmt/core.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "runtime/collectives/mpi_transport.h"
#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "runtime/core/progress.h"
#include "trainer/cli/application.h"
#include "trainer/cli/command.h"
#include "trainer/cli/config_options.h"
#include "trainer/training/ranks.h"
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
std::unique_ptr<Collectives> join() {
  std::unique_ptr<Transport> transport = join_ranks();
  if (transport == nullptr) {
    return nullptr;
  }
  if (const int rank = transport->rank(); rank > 0) {
    set_log_origin(fmt::format("rank {}", rank));
    set_log_level(LogLevel::kError);
    set_progress_enabled(false);
  }
  Collectives::Options options;
  options.devices_failed = end_with_devices;
  return std::make_unique<Collectives>(std::move(transport), std::move(options));
}

void take_settings(Collectives& ranks, const DistributedConfig& config) {
  ranks.set_timeout(config.timeout_s);
  ranks.set_ordered(config.deterministic);
  if (ranks.first()) {
    log_info("{} ranks: {}, its sums in {}", ranks.size(), mpi_library(),
             config.deterministic ? "the order of the ranks" : "the order that MPI chooses");
  }
}

int train(const Options& options, Collectives* ranks, StopSignalGuard& signals) {
  Collectives alone;
  LoadedConfig config;
  on_every_rank(ranks != nullptr ? *ranks : alone,
                [&] { config = options.config.load(overrides(options)); });
  if (ranks != nullptr) {
    take_settings(*ranks, config.config.distributed);
  }
  const TrainingResult result = run_training(config, {.output_dir = options.output_dir,
                                                      .resume = options.resume,
                                                      .dry_run = options.dry_run,
                                                      .ranks = ranks,
                                                      .signals = &signals});
  return result.end == TrainingResult::End::kInterrupted ? kExitInterrupted : 0;
}

// In a catch block of an error that all ranks know of. It was told before any of them ends: one
// that ends with an error takes the others with it.
int end_together(Collectives& ranks) {
  const int mine = report_current_exception("train", ranks.failure()->tells);
  const auto all = ranks.all_gather(std::to_string(mine), "exit status of each rank");
  const int status = std::stoi(all.at(static_cast<std::size_t>(ranks.failure()->first)));
  leave_ranks(status, true);
  return status;
}

// In a signal handler, before there is anything to save.
void end_at_once(const char* /*signal*/) { ::_exit(kExitInterrupted); }
void end_with_a_word(const char* signal) {
  for (const char* text :
       {"stemfabric train: stopped by ", signal,
        " before training began; nothing is lost, run the same command again\n"}) {
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text, std::strlen(text));
  }
  end_at_once(signal);
}

int run_train(const Options& options) {
  // Before MPI starts, which may take long.
  StopSignalGuard signals(rank_environment().rank == 0 ? end_with_a_word : end_at_once);
  const std::unique_ptr<Collectives> ranks = join();
  try {
    return train(options, ranks.get(), signals);
  } catch (...) {
    if (ranks == nullptr || !ranks->failure()) {
      throw;
    }
    return end_together(*ranks);
  }
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
