#include "trainer/pipeline/pipeline.h"

#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <optional>
#include <system_error>

#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "runtime/io/file.h"
#include "runtime/io/folder_lock.h"
#include "trainer/config/fields.h"
#include "trainer/data/snapshot_dataset.h"
#include "trainer/device_context.h"
#include "trainer/snapshot/sanitize.h"
#include "trainer/training/checkpoint.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;

// A label becomes a folder: no separators, nothing hidden, nothing that looks like an option.
void check_label(const std::string& label) {
  constexpr std::size_t kMaxLength = 100;
  bool plain = !label.empty() && label.size() <= kMaxLength && label[0] != '.' && label[0] != '-';
  for (const char c : label) {
    plain = plain &&
            (std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '_' || c == '-');
  }
  if (!plain) {
    throw UsageError(
        "--run-label '{}' is no plain name: use up to {} letters, digits, '.', '_' and '-', and "
        "begin with a letter or digit",
        label.substr(0, kMaxLength), kMaxLength);
  }
}

// The settings that decide what is in the data set.
std::map<std::string, std::string> dataset_settings(const Config& config) {
  Config copy = config;
  std::map<std::string, std::string> settings;
  for (const Field& field : list_fields(copy).fields) {
    const std::string key = field.key();
    if (field.section == "features" || key == "data.train_ratio" || key == "data.split_seed" ||
        key == "data.snapshot_targets" || key == "loss.correction_weight") {
      settings[key] = value_to_yaml(field);
    }
  }
  return settings;
}

class Pipeline {
 public:
  explicit Pipeline(const PipelineOptions& options)
      : options_(options), config_(options.config.config) {
    check_label(options.run_label);
    result_.folder = options.output_dir / options.run_label;
  }

  PipelineResult run() {
    open();
    sanitize();
    build_dataset();
    train();
    if (result_.training.end != TrainingResult::End::kInterrupted) {
      evaluate_model();
    }
    return result_;
  }

 private:
  fs::path state_file() const { return result_.folder / "pipeline.json"; }
  fs::path records() const { return result_.folder / "sanitized.jsonl"; }
  fs::path dataset() const { return result_.folder / "dataset"; }

  // Starts a folder, or goes on with one that was made from the same things.
  void open() {
    std::error_code error;
    if (!fs::exists(options_.snapshot_dir, error)) {
      throw InputError("--snapshot-dir {} does not exist", options_.snapshot_dir.string());
    }
    refuse_output_among_snapshots();
    refuse_folder_of_others();
    make_directories(result_.folder);
    lock_.emplace(result_.folder, "`stemfabric run`", "--run-label");
    const PipelineState fresh{.snapshots = fingerprint(options_.snapshot_dir),
                              .settings = dataset_settings(config_)};
    const auto earlier = read_pipeline_state(state_file());
    if (earlier) {
      const std::string difference = difference_between(*earlier, fresh);
      if (difference.empty()) {
        state_ = *earlier;
        return;
      }
      if (has_training()) {
        throw UsageError("{}; use another --run-label", difference);
      }
      log_info("{}; nothing was trained there yet, so that all of it is made anew", difference);
      state_ = fresh;
      write_pipeline_state(state_file(), state_);
      return;
    }
    state_ = fresh;
    write_pipeline_state(state_file(), state_);
  }

  void refuse_folder_of_others() const {
    std::error_code error;
    if (fs::exists(state_file(), error)) {
      return;
    }
    for (fs::directory_iterator it(result_.folder, error), end; !error && it != end;
         it.increment(error)) {
      if (it->path().filename() != ".lock") {
        throw UsageError("{} exists and was not made by `stemfabric run`; use another --run-label",
                         result_.folder.string());
      }
    }
  }

  // The run's own files would be taken for snapshots, and a second call would find other ones.
  void refuse_output_among_snapshots() const {
    const fs::path inputs = fs::weakly_canonical(options_.snapshot_dir);
    const fs::path outputs = fs::weakly_canonical(result_.folder);
    if (std::ranges::mismatch(inputs, outputs).in1 == inputs.end()) {
      throw UsageError("--output-dir {} lies inside --snapshot-dir {}; choose a folder elsewhere",
                       options_.output_dir.string(), options_.snapshot_dir.string());
    }
  }

  // In words; empty if both make the same data set.
  std::string difference_between(const PipelineState& earlier, const PipelineState& now) const {
    for (const auto& [key, value] : now.settings) {
      const auto before = earlier.settings.find(key);
      if (before == earlier.settings.end() || before->second != value) {
        return fmt::format("{} was made with {} = {}, this call has {}", result_.folder.string(),
                           key, before == earlier.settings.end() ? "nothing" : before->second,
                           value);
      }
    }
    if (earlier.snapshots != now.snapshots) {
      return fmt::format("{} was made from other snapshots, or those in {} have changed since",
                         result_.folder.string(), options_.snapshot_dir.string());
    }
    return {};
  }

  // What took time and cannot be had again by a second call. A trainer that is still at work
  // counts.
  bool has_training() const {
    std::error_code error;
    const fs::path run = result_.folder / "run";
    return fs::exists(run / "final_model.safetensors", error) ||
           !list_checkpoints(run / "checkpoints").empty() || FolderLock::held(run);
  }

  void sanitize() {
    std::error_code error;
    if (!state_.sanitize || !fs::exists(records(), error)) {
      const SanitizeOptions sanitizing{.input = options_.snapshot_dir,
                                       .output = records(),
                                       .report = result_.folder / "sanitize_report.json",
                                       .threads = static_cast<int>(config_.training.threads)};
      const SanitizeSummary summary = sanitize_snapshots(sanitizing);
      require_accepted(sanitizing, summary);
      state_.sanitize = SanitizeCounts{.accepted = summary.accepted(),
                                       .repaired = summary.count(Verdict::kAcceptWithRepair),
                                       .refused = summary.count(Verdict::kReject),
                                       .duplicates = summary.count(Verdict::kDuplicate)};
      state_.records_sha256 = sha256_file(records());
      write_pipeline_state(state_file(), state_);
    } else {
      require_unchanged_records();
      keep("sanitized records", records());
    }
    result_.sanitize = *state_.sanitize;
  }

  void require_unchanged_records() const {
    if (sha256_file(records()) != state_.records_sha256) {
      throw InputError(
          "{}: was changed or damaged since it was made; remove it to have it made again",
          records().string());
    }
  }

  void build_dataset() {
    std::error_code error;
    if (!state_.dataset || !fs::exists(dataset() / "manifest.json", error)) {
      const SnapshotDatasetSummary summary =
          build_snapshot_dataset({.input = records(),
                                  .output_dir = result_.folder,
                                  .run_label = dataset().filename().string(),
                                  .train_ratio = config_.data.train_ratio,
                                  .seed = static_cast<uint64_t>(config_.data.split_seed),
                                  .tokens = {.layout = token_layout(config_.features.layout),
                                             .targets = target_kind(config_.data.snapshot_targets),
                                             .time_bins = config_.features.time_bins,
                                             .packed_width = config_.features.packed_width,
                                             .correction_weight = config_.loss.correction_weight},
                                  .overwrite = true,
                                  .threads = static_cast<int>(config_.training.threads)});
      state_.dataset =
          DatasetCounts{.train = summary.train,
                        .validation = summary.validation,
                        .without_targets = summary.without_stems + summary.without_targets};
      write_pipeline_state(state_file(), state_);
    } else {
      keep("data set", dataset());
    }
    result_.dataset = *state_.dataset;
  }

  void train() {
    LoadedConfig config = options_.config;
    config.config.data.dataset_dir = dataset().string();
    config.origins["data.dataset_dir"] = "run";
    result_.training =
        run_training(config, {.output_dir = result_.folder / "run", .resume = options_.resume});
  }

  void evaluate_model() {
    if (result_.dataset.validation == 0) {
      result_.evaluated_split = "train";
      log_warning("there are no validation records: the scores are those of the training records");
    }
    const ExecutionContext ctx =
        device_context(config_.inference.device, "inference.device", config_.training.threads);
    result_.evaluation = evaluate(ctx, {.dataset_dir = dataset(),
                                        .model = result_.training.final_model,
                                        .output_dir = result_.folder / "evaluation",
                                        .split = result_.evaluated_split,
                                        .batch_size = config_.inference.batch_size});
  }

  void keep(std::string_view what, const fs::path& path) {
    log_info("kept from an earlier call: {} in {}", what, path.string());
    result_.resumed = true;
  }

  const PipelineOptions& options_;
  const Config& config_;
  std::optional<FolderLock> lock_;
  PipelineState state_;
  PipelineResult result_;
};

}  // namespace

PipelineResult run_pipeline(const PipelineOptions& options) { return Pipeline(options).run(); }

}  // namespace stemfabric
