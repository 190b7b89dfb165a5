#include "trainer/evaluation/evaluate.h"

#include <fmt/chrono.h>

#include <ctime>
#include <nlohmann/json.hpp>
#include <optional>

#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "runtime/io/file.h"
#include "trainer/config/config_io.h"
#include "trainer/model/trained_model.h"
#include "trainer/model/weights_file.h"
#include "trainer/report/evaluation_report.h"
#include "trainer/training/run_record.h"

namespace stemfabric {
namespace {

const Dataset& chosen_split(const DatasetFolder& folder, const std::string& split) {
  if (split != "train" && split != "validation") {
    throw UsageError("--split {}: expected train or validation", split);
  }
  const std::optional<Dataset>& data = split == "train" ? folder.train : folder.validation;
  if (!data || data->size() == 0) {
    throw InputError("the data set {} has no samples in its {} split; {}", folder.root.string(),
                     split,
                     split == "validation" ? "evaluate --split train, or make one with a smaller "
                                             "--train-ratio"
                                           : "make one with a larger --train-ratio");
  }
  return *data;
}

// "samples" or "bands", as the manifest says; empty if it does not.
std::string target_kind(const DatasetFolder& folder) {
  const nlohmann::json manifest =
      nlohmann::json::parse(folder.manifest, nullptr, /*allow_exceptions=*/false);
  if (manifest.is_object() && manifest.contains("targets") && manifest["targets"].is_object()) {
    const auto kind = manifest["targets"].find("kind");
    if (kind != manifest["targets"].end() && kind->is_string()) {
      return kind->get<std::string>();
    }
  }
  return {};
}

void check_fit(const std::filesystem::path& weights, const ModelConfig& model,
               const DatasetFolder& folder, const Dataset& data) {
  const auto require = [&](int64_t of_model, int64_t of_data, const char* what) {
    if (of_model != of_data) {
      throw InputError(
          "{} has {} {}, but the data set {} has {}; evaluate on data made with the "
          "same feature settings",
          weights.string(), of_model, what, folder.root.string(), of_data);
    }
  };
  require(model.input_dim, data.features(), "features per token");
  require(model.output_dim, data.outputs(), "outputs per token");
  if (data.tokens() > model.max_sequence_length) {
    throw InputError("{} takes at most {} tokens, but the data set {} has {}", weights.string(),
                     model.max_sequence_length, folder.root.string(), data.tokens());
  }
}

// What the weights file and the run folder that it lies in tell about the training.
void describe_training(const TrainedModel& trained, ReportInputs& report) {
  report.model_config = model_config_to_json(trained.config());
  for (const auto& [entry, key] : {std::pair{"seed", "seed"},
                                   {"step", "step"},
                                   {"weights", "weights"},
                                   {"data_hash", "dataHash"},
                                   {"code_revision", "codeRevision"}}) {
    if (const auto found = trained.metadata.find(entry); found != trained.metadata.end()) {
      report.training[key] = found->second;
    }
  }
  if (const auto record = find_run_record(trained.weights, trained.sha256)) {
    report.config = record->config;
    report.config_source = record->source.string();
    report.training["codeVersion"] = record->code_version;
    report.training["codeRevision"] = record->code_revision;
    report.training["dataHash"] = record->data_hash;
    report.training["seed"] =
        nlohmann::json::parse(record->config).at("training").at("seed").dump();
  }
}

}  // namespace

EvaluateResult evaluate(const ExecutionContext& ctx, const EvaluateRequest& request) {
  const DatasetFolder folder = open_dataset(request.dataset_dir);
  const Dataset& data = chosen_split(folder, request.split);
  TrainedModel trained;
  if (!request.model.empty()) {
    const std::filesystem::path weights = find_weights(request.model);
    check_fit(weights, read_model_config(weights), folder, data);
    const int64_t batch = std::min(std::max<int64_t>(request.batch_size, 1), data.size());
    trained = open_trained_model(ctx, weights, batch, data.tokens());
  }
  // Before the work rather than after it.
  make_directories(request.output_dir);
  const std::vector<RecordEvaluation> records =
      evaluate_dataset(trained.model.get(), data, request.batch_size);
  EvaluateResult result{.summary = summarise(records),
                        .json = request.output_dir / "evaluation_report.json",
                        .html = request.output_dir / "report.html"};
  result.note = target_note(target_kind(folder));
  ReportInputs report{
      .timestamp = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr))),
      .dataset_dir = folder.root.string(),
      .split = request.split,
      .data_hash = folder.hash,
      .split_hash = data.hash(),
      .target_kind = target_kind(folder),
      .has_model = trained.model != nullptr,
      .records = records,
      .summary = result.summary};
  if (trained.model) {
    report.model_path = trained.weights.string();
    report.model_hash = trained.sha256;
    describe_training(trained, report);
    report.run_folder = run_folder_of(trained.weights).string();
  }
  write_evaluation_json(result.json, report);
  write_evaluation_html(result.html, report);
  return result;
}

}  // namespace stemfabric
