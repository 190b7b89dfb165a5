#include "trainer/evaluation/describe_model.h"

#include <nlohmann/json.hpp>

#include "trainer/config/config_io.h"
#include "trainer/training/run_record.h"

namespace stemfabric {
namespace {

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

void describe_model(const TrainedModel& trained, ReportInputs& report) {
  report.model_path = trained.weights.string();
  report.model_hash = trained.sha256;
  describe_training(trained, report);
  report.run_folder = run_folder_of(trained.weights).string();
}

}  // namespace stemfabric
