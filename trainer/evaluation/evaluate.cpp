#include "trainer/evaluation/evaluate.h"

#include <nlohmann/json.hpp>
#include <optional>

#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "runtime/io/file.h"
#include "trainer/audio_data/audio_dataset.h"
#include "trainer/config/config_io.h"
#include "trainer/evaluation/describe_model.h"
#include "trainer/evaluation/evaluate_audio.h"
#include "trainer/model/trained_model.h"
#include "trainer/model/weights_file.h"
#include "trainer/report/evaluation_report.h"
#include "trainer/training/run_outputs.h"

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
  if (model.mask != "none") {
    throw InputError(
        "{} is a model of masks, but the data set {} holds snapshots; evaluate it on one made by "
        "`stemfabric dataset --audio`",
        weights.string(), folder.root.string());
  }
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

}  // namespace

EvaluateResult evaluate(const ExecutionContext& ctx, const EvaluateRequest& request) {
  if (is_audio_dataset(request.dataset_dir)) {
    return evaluate_audio(ctx, request);
  }
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
                        .oracles = {},
                        .json = request.output_dir / "evaluation_report.json",
                        .html = request.output_dir / "report.html"};
  result.note = target_note(target_kind(folder));
  ReportInputs report{.timestamp = utc_now(),
                      .device = ctx.device(),
                      .dataset_dir = folder.root.string(),
                      .split = request.split,
                      .data_hash = folder.hash,
                      .split_hash = data.hash(),
                      .target_kind = target_kind(folder),
                      .has_model = trained.model != nullptr,
                      .records = records,
                      .summary = result.summary};
  if (trained.model) {
    describe_model(trained, report);
  }
  write_evaluation_json(result.json, report);
  write_evaluation_html(result.html, report);
  return result;
}

}  // namespace stemfabric
