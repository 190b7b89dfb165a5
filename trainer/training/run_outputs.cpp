#include "trainer/training/run_outputs.h"

#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>

#include "runtime/io/file.h"
#include "runtime/io/self_hash.h"
#include "trainer/model/weights_file.h"
#include "trainer/version.h"

namespace stemfabric {
namespace {

using Json = nlohmann::ordered_json;

// Paths may hold bytes that are no UTF-8.
std::string dump(const Json& json) {
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

// With a hash of its contents, for a file that is read again.
void write_sealed(const std::filesystem::path& path, Json json) {
  json[kSelfHashKey] = self_hash_placeholder();
  write_text_file(path, seal_text(dump(json)));
}

void append_losses(Json& lists, const std::string& name, const LossValues* loss) {
  lists[name].push_back(loss != nullptr ? Json(loss->total) : Json());
  for (std::size_t s = 0; s < kStemCount; ++s) {
    lists[name + "_" + std::string(kStemNames[s])].push_back(loss != nullptr ? Json(loss->stem[s])
                                                                             : Json());
  }
}

// Of audio.
void append_sdr(Json& lists, const EpochRecord& record) {
  for (std::size_t s = 0; s < kStemCount; ++s) {
    lists["val_sdr_" + std::string(kStemNames[s])].push_back(
        record.validation_sdr ? Json((*record.validation_sdr)[s]) : Json());
  }
}

Json best_entry(const EarlyStopping::State& best, bool by_validation) {
  if (best.best_epoch == 0) {
    return nullptr;
  }
  return {{"epoch", best.best_epoch},
          {"step", best.best_step},
          {"monitored", by_validation ? "validation loss" : "training loss"},
          {"loss", best.best}};
}

Json data_entry(const TrainingSetup& setup) {
  const SampleSource* validation = setup.validation();
  return {{"folder", setup.data.root.string()},
          {"hash", setup.data.hash},
          {"train_samples", setup.train().size()},
          {"validation_samples", validation != nullptr ? validation->size() : 0},
          {"tokens", setup.train().tokens()},
          {"features", setup.model.input_dim},
          {"outputs", setup.model.output_dim}};
}

}  // namespace

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

void write_best_model(const std::filesystem::path& path, const TrainingSetup& setup,
                      const RunIdentity& identity, const ParameterTable& table,
                      const ConstTensorView& weights, const EarlyStopping::State& best) {
  const std::string hash =
      write_weights(path, setup.model, table, setup.units.leave(table, weights.as<float>()).data(),
                    setup.statistics,
                    {{"step", std::to_string(best.best_step)},
                     {"seed", std::to_string(setup.config.training.seed)},
                     {"data_hash", setup.data.hash},
                     {"code_revision", std::string(code_revision())}});
  Json json = best_entry(best, setup.validation() != nullptr);
  json["sha256"] = hash;
  json["code_version"] = version();
  json["code_revision"] = code_revision();
  json["data_hash"] = setup.data.hash;
  json["config"] = Json::parse(identity.config_json);
  std::filesystem::path beside = path;
  write_sealed(beside.replace_extension(".json"), std::move(json));
}

void write_history(const std::filesystem::path& path, const std::vector<EpochRecord>& history) {
  Json lists = {{"epoch", Json::array()},
                {"step", Json::array()},
                {"lr", Json::array()},
                {"seconds", Json::array()}};
  const bool has_sdr = std::ranges::any_of(
      history, [](const EpochRecord& record) { return record.validation_sdr.has_value(); });
  for (const EpochRecord& record : history) {
    lists["epoch"].push_back(record.epoch);
    lists["step"].push_back(record.step);
    lists["lr"].push_back(record.lr);
    lists["seconds"].push_back(record.seconds);
    append_losses(lists, "loss", &record.train);
    append_losses(lists, "val_loss", record.validation ? &*record.validation : nullptr);
    if (has_sdr) {
      append_sdr(lists, record);
    }
  }
  write_text_file(path, dump(lists));
}

void write_summary(const std::filesystem::path& path, const SummaryInputs& in) {
  const TrainingResult& result = in.result;
  const bool by_validation = in.setup.validation() != nullptr;
  Json json = {{"code_version", version()},
               {"code_revision", code_revision()},
               {"finished", utc_now()},
               {"seed", in.config.config.training.seed},
               {"data_hash", in.setup.data.hash},
               {"data", data_entry(in.setup)},
               {"end", end_name(result.end)},
               {"steps", result.steps},
               {"epochs", result.epochs},
               {"skipped_steps", result.skipped_steps},
               {"seconds", result.seconds},
               {"train_loss", result.train_loss},
               {"validation_loss", result.validation_loss ? Json(*result.validation_loss) : Json()},
               {"best", best_entry(in.state.early_stopping, by_validation)},
               {"parameters", in.parameters},
               {"final_model",
                {{"file", in.model.path.filename().string()},
                 {"sha256", in.model.sha256},
                 {"weights", in.model.weights},
                 {"h5_missing_because",
                  in.model.h5_obstacle.empty() ? Json() : Json(in.model.h5_obstacle)}}},
               {"model", Json::parse(model_config_to_json(in.setup.model))},
               {"config", Json::parse(in.identity.config_json)}};
  write_sealed(path, std::move(json));
}

}  // namespace stemfabric
