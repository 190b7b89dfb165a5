#include "trainer/export/model_card.h"

#include <nlohmann/json.hpp>

#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "runtime/io/file.h"
#include "trainer/evaluation/describe_model.h"
#include "trainer/export/verification.h"
#include "trainer/report/html_page.h"
#include "trainer/stems.h"
#include "trainer/version.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kReport = "evaluation_report.json";
constexpr const char* kScores[] = {"sdr", "sir", "sar", "overall"};

bool is_about(const std::string& text, const TrainedModel& trained, const fs::path& path) {
  const Json report = Json::parse(text, nullptr, false);
  const Json model = report.is_object() ? report.value("model", Json()) : Json();
  if (!report.is_object() || !report.contains("stemMetrics")) {
    throw InputError("{}: is no evaluation_report.json of `stemfabric evaluate`", path.string());
  }
  return model.is_object() && model.value("sha256", "") == trained.sha256;
}

const char* purpose_of(const ModelConfig& config) {
  return config.mask == "none"
             ? "Estimates what each of six stems of a song holds at each token, from the feature "
               "vectors of a snapshot. For showing and comparing stems in a Studio; it makes no "
               "audio."
             : "Estimates masks on the spectrum of a mixture, for separating a song into six "
               "stems. Features are computed before it, masks are applied behind it.";
}

constexpr const char* kLimitations =
    "Scores hold for data like those of the evaluation. The stems are those of the training data's "
    "definition; what belongs to none of them is in no defined stem. Separating a recording gives "
    "no right to use it.";

// What the run says of the training, without places on the machine that trained.
Json training_of(const ReportInputs& report) {
  Json training(report.training);
  Json config = report.config_source.empty() ? Json() : Json::parse(report.config);
  if (config.is_object()) {
    config["data"].erase("dataset_dir");
    config["training"].erase("init_from");
    training["config"] = config;
  }
  return training;
}

Json evaluation_of(const std::string& text) {
  if (text.empty()) {
    return nullptr;
  }
  const Json report = Json::parse(text);
  Json evaluation = {{"weights", "fp32"}};
  for (const char* key : {"timestamp", "aggregateMetrics", "stemMetrics", "baselines",
                          "definitions", "data", "note"}) {
    if (report.contains(key)) {
      evaluation[key] = report.at(key);
    }
  }
  if (evaluation.contains("data") && evaluation["data"].is_object()) {
    evaluation["data"].erase("path");
  }
  return evaluation;
}

Json web_weights_of(const ModelCard& card) {
  if (!card.web_weights) {
    return nullptr;
  }
  return {{"kind", card.web_weights->kind},
          {"largest_difference", card.web_weights->largest},
          {"rms_difference", card.web_weights->rms},
          {"evaluated", false}};
}

Json card_json(const ModelCard& card) {
  const ModelConfig& config = card.trained.config();
  const std::vector<RecordEvaluation> no_records;
  const EvaluationSummary no_summary{};
  ReportInputs report{.records = no_records, .summary = no_summary};
  describe_model(card.trained, report);
  Json files = Json::array();
  for (const ExportedFile& file : card.files) {
    files.push_back({{"format", file.format},
                     {"name", file.name},
                     {"bytes", file.bytes},
                     {"sha256", file.sha256}});
  }
  return {{"generator", version_line()},
          {"intended_use", purpose_of(config)},
          {"limitations", kLimitations},
          {"licence", card.licence.empty() ? Json() : Json(card.licence)},
          {"model",
           {{"weights_sha256", card.trained.sha256},
            {"parameters", card.trained.model->parameters().parameter_count()},
            {"stems", kStemNames},
            {"config", Json::parse(report.model_config)}}},
          {"training", training_of(report)},
          {"evaluation", evaluation_of(card.evaluation)},
          {"verification",
           {{"tolerance", kExportTolerance},
            {"definition",
             "largest difference from the trainer's output, as a share of the largest output of "
             "the same stem"},
            {"agreement", card.agreement},
            {"web_weights", web_weights_of(card)}}},
          {"files", files}};
}

std::string text_of(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

// An empty object where there is none.
Json object_in(const Json& json, const std::string& key) {
  const Json value = json.is_object() ? json.value(key, Json()) : Json();
  return value.is_object() ? value : Json::object();
}

std::string row(const std::string& name, const Json& metrics) {
  std::string line = fmt::format("| {} |", name);
  for (const char* score : kScores) {
    const Json value = metrics.value(score, Json());
    line += value.is_number() ? fmt::format(" {:.2f} |", value.get<double>()) : " – |";
  }
  line += '\n';
  return line;
}

std::string evaluation_section(const Json& card) {
  const Json& evaluation = card.at("evaluation");
  if (evaluation.is_null()) {
    return "## Scores\n\nNo evaluation of these weights was at hand.\n\n";
  }
  std::string text = "## Scores\n\n";
  const Json data = object_in(evaluation, "data");
  text += fmt::format("Split `{}`, {} records, data hash `{}`.\n\n",
                      text_of(data.value("split", Json())), text_of(data.value("records", Json())),
                      text_of(data.value("hash", Json())));
  if (const Json& packed = card.at("verification").at("web_weights"); !packed.is_null()) {
    text += fmt::format(
        "The scores are those of the fp32 weights; the tfjs files hold {} weights, which were not "
        "evaluated.\n\n",
        text_of(packed["kind"]));
  }
  text += "| stem | SDR, dB | SIR, dB | SAR, dB | overall |\n|---|---|---|---|---|\n";
  const Json stems = object_in(evaluation, "stemMetrics");
  for (const std::string_view stem : kStemNames) {
    text += row(std::string(stem), object_in(stems, std::string(stem)));
  }
  text += row("all", object_in(evaluation, "aggregateMetrics"));
  const Json mixture = object_in(object_in(evaluation, "baselines"), "mixture");
  text += row("mixture as the estimate", object_in(mixture, "aggregateMetrics"));
  if (evaluation.contains("note")) {
    text += fmt::format("\n{}\n", text_of(evaluation["note"]));
  }
  text += "\nDefinitions:\n\n";
  const Json definitions = object_in(evaluation, "definitions");
  for (const auto& [name, definition] : definitions.items()) {
    text += fmt::format("- {}: {}\n", name, text_of(definition));
  }
  text += '\n';
  return text;
}

std::string training_section(const Json& training) {
  std::string text = "## Training\n\n| | |\n|---|---|\n";
  for (const auto& [name, value] : training.items()) {
    if (name != "config") {
      text += fmt::format("| {} | `{}` |\n", name, text_of(value));
    }
  }
  if (training.empty()) {
    text += "| | nothing is recorded in the weights |\n";
  }
  text += '\n';
  return text;
}

std::string files_section(const Json& card) {
  std::string text = "## Files\n\n| file | bytes | SHA-256 |\n|---|---|---|\n";
  for (const Json& file : card.at("files")) {
    text += fmt::format("| `{}` | {} | `{}` |\n", text_of(file["name"]), text_of(file["bytes"]),
                        text_of(file["sha256"]));
  }
  text += fmt::format(
      "\nEach was read back and run before it was released. Largest difference from the trainer's "
      "outputs, as a share of the largest output of the stem ({} is allowed):\n\n",
      text_of(card.at("verification").at("tolerance")));
  for (const auto& [format, share] : card.at("verification").at("agreement").items()) {
    text += fmt::format("- {}: {:.1e}\n", format, share.get<double>());
  }
  if (const Json& packed = card.at("verification").at("web_weights"); !packed.is_null()) {
    text += fmt::format(
        "\nThe tfjs files hold {} weights and were compared with the trainer on these. What the "
        "rounding of the weights changed: at most {:.1e} of the largest output, {:.1e} of the "
        "outputs in the root mean square.\n",
        text_of(packed["kind"]), packed["largest_difference"].get<double>(),
        packed["rms_difference"].get<double>());
  }
  text += '\n';
  return text;
}

std::string card_markdown(const Json& card) {
  const Json& model = card.at("model");
  const Json& training = card.at("training");
  std::string text = "# Model card\n\n";
  text += fmt::format("{}\n\n{}\n\n", text_of(card["intended_use"]), text_of(card["limitations"]));
  text +=
      fmt::format("| | |\n|---|---|\n| licence | {} |\n| parameters | {} |\n| weights | `{}` |\n\n",
                  card["licence"].is_null() ? "not stated" : text_of(card["licence"]),
                  text_of(model["parameters"]), text_of(model["weights_sha256"]));
  text += evaluation_section(card);
  text += training_section(training);
  text += files_section(card);
  const Json config =
      training.contains("config") ? training["config"] : Json{{"model", model["config"]}};
  text += fmt::format("## Configuration\n\n```yaml\n{}```\n", yaml_from_json(config.dump()));
  return text;
}

}  // namespace

std::string find_evaluation(const TrainedModel& trained, const fs::path& stated) {
  if (!stated.empty()) {
    std::string text = read_text_file(stated);
    if (!is_about(text, trained, stated)) {
      throw InputError("{}: evaluates other weights than {}; run `stemfabric evaluate` on these",
                       stated.string(), trained.weights.string());
    }
    return text;
  }
  const fs::path run = run_folder_of(trained.weights);
  if (run.empty()) {
    return {};
  }
  const fs::path beside = fs::path("evaluation") / kReport;
  for (const fs::path& path : {run / beside, run / kReport, run.parent_path() / beside}) {
    if (!fs::exists(path)) {
      continue;
    }
    std::string text = read_text_file(path);
    if (is_about(text, trained, path)) {
      return text;
    }
    log_warning("{} evaluates other weights than {}: the model card has no scores", path.string(),
                trained.weights.string());
  }
  return {};
}

void write_model_card(const fs::path& folder, const ModelCard& card) {
  const Json json = card_json(card);
  write_text_file(folder / kModelCardData, json.dump(2) + "\n");
  write_text_file(folder / kModelCardPage, card_markdown(json));
}

std::map<std::string, std::string> files_of_model_card(const fs::path& folder) {
  std::map<std::string, std::string> files;
  if (!fs::is_regular_file(folder / kModelCardData)) {
    return files;
  }
  const Json card = Json::parse(read_text_file(folder / kModelCardData), nullptr, false);
  const Json generator = card.is_object() ? card.value("generator", Json()) : Json();
  if (!generator.is_string() || !generator.get<std::string>().starts_with("stemfabric ")) {
    return files;
  }
  for (const Json& file : card.value("files", Json::array())) {
    if (file.is_object() && file.contains("name") && file.contains("sha256")) {
      files[text_of(file["name"])] = text_of(file["sha256"]);
    }
  }
  return files;
}

}  // namespace stemfabric
