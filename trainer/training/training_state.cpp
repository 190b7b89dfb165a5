#include "trainer/training/training_state.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "runtime/core/check.h"

namespace stemfabric {
namespace {

using Json = nlohmann::json;

// JSON has no infinity and no NaN; both are kept as words, so that reading gives the same state.
Json number(double value) {
  if (std::isfinite(value)) {
    return value;
  }
  return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
}

double read_number(const Json& json) {
  if (json.is_string()) {
    const auto& word = json.get_ref<const std::string&>();
    if (word != "nan" && word != "inf" && word != "-inf") {
      throw InputError("'{}' is no number", word);
    }
    return word == "nan"   ? std::numeric_limits<double>::quiet_NaN()
           : word == "inf" ? std::numeric_limits<double>::infinity()
                           : -std::numeric_limits<double>::infinity();
  }
  return json.get<double>();
}

Json stem_values(const StemValues& values) {
  Json array = Json::array();
  for (const double value : values) {
    array.push_back(number(value));
  }
  return array;
}

StemValues read_stem_values(const Json& json) {
  StemValues values{};
  for (std::size_t s = 0; s < values.size(); ++s) {
    values[s] = read_number(json.at(s));
  }
  return values;
}

Json loss_values(const LossValues& loss) {
  return {{"total", number(loss.total)}, {"stem", stem_values(loss.stem)}};
}

LossValues read_loss_values(const Json& json) {
  return {.total = read_number(json.at("total")), .stem = read_stem_values(json.at("stem"))};
}

Json epoch_record(const EpochRecord& record) {
  return {{"epoch", record.epoch},
          {"step", record.step},
          {"lr", number(record.lr)},
          {"seconds", number(record.seconds)},
          {"train", loss_values(record.train)},
          {"validation", record.validation ? loss_values(*record.validation) : Json()}};
}

EpochRecord read_epoch_record(const Json& json) {
  EpochRecord record;
  record.epoch = json.at("epoch").get<int64_t>();
  record.step = json.at("step").get<int64_t>();
  record.lr = read_number(json.at("lr"));
  record.seconds = read_number(json.at("seconds"));
  record.train = read_loss_values(json.at("train"));
  if (!json.at("validation").is_null()) {
    record.validation = read_loss_values(json.at("validation"));
  }
  return record;
}

TrainingState read_state(const Json& json) {
  TrainingState state;
  state.step = json.at("step").get<int64_t>();
  state.epoch = json.at("epoch").get<int64_t>();
  state.step_in_epoch = json.at("step_in_epoch").get<int64_t>();
  state.optimizer_steps = json.at("optimizer_steps").get<int64_t>();
  state.skipped_steps = json.at("skipped_steps").get<int64_t>();
  state.skipped_in_a_row = json.at("skipped_in_a_row").get<int64_t>();
  state.seconds = read_number(json.at("seconds"));
  state.last_lr = read_number(json.at("last_lr"));
  state.metrics_bytes = json.at("metrics_bytes").get<uint64_t>();
  state.epoch_metrics_bytes = json.at("epoch_metrics_bytes").get<uint64_t>();
  const Json& sums = json.at("epoch_sums");
  state.epoch_sums = {.weighted = read_stem_values(sums.at("weighted")),
                      .plain = read_stem_values(sums.at("plain")),
                      .count = read_stem_values(sums.at("count"))};
  const Json& schedule = json.at("schedule");
  state.schedule = {
      .lr = read_number(schedule.at("lr")),
      .best = read_number(schedule.at("best")),
      .epochs_without_progress = schedule.at("epochs_without_progress").get<int64_t>()};
  const Json& stopping = json.at("early_stopping");
  state.early_stopping = {
      .best = read_number(stopping.at("best")),
      .best_epoch = stopping.at("best_epoch").get<int64_t>(),
      .best_step = stopping.at("best_step").get<int64_t>(),
      .epochs_without_progress = stopping.at("epochs_without_progress").get<int64_t>()};
  for (const Json& record : json.at("history")) {
    state.history.push_back(read_epoch_record(record));
  }
  return state;
}

}  // namespace

void LossSums::add(const StemValues& weighted_loss, const StemValues& loss,
                   const StemValues& counts) {
  for (std::size_t s = 0; s < kStemCount; ++s) {
    weighted[s] += weighted_loss[s] * counts[s];
    plain[s] += loss[s] * counts[s];
    count[s] += counts[s];
  }
}

LossValues LossSums::mean() const {
  LossValues mean;
  for (std::size_t s = 0; s < kStemCount; ++s) {
    if (count[s] > 0) {
      mean.stem[s] = plain[s] / count[s];
      mean.total += weighted[s] / count[s];
    }
  }
  return mean;
}

std::string training_state_to_json(const TrainingState& state) {
  Json json = {{"step", state.step},
               {"epoch", state.epoch},
               {"step_in_epoch", state.step_in_epoch},
               {"optimizer_steps", state.optimizer_steps},
               {"skipped_steps", state.skipped_steps},
               {"skipped_in_a_row", state.skipped_in_a_row},
               {"seconds", number(state.seconds)},
               {"last_lr", number(state.last_lr)},
               {"metrics_bytes", state.metrics_bytes},
               {"epoch_metrics_bytes", state.epoch_metrics_bytes},
               {"epoch_sums",
                {{"weighted", stem_values(state.epoch_sums.weighted)},
                 {"plain", stem_values(state.epoch_sums.plain)},
                 {"count", stem_values(state.epoch_sums.count)}}},
               {"schedule",
                {{"lr", number(state.schedule.lr)},
                 {"best", number(state.schedule.best)},
                 {"epochs_without_progress", state.schedule.epochs_without_progress}}},
               {"early_stopping",
                {{"best", number(state.early_stopping.best)},
                 {"best_epoch", state.early_stopping.best_epoch},
                 {"best_step", state.early_stopping.best_step},
                 {"epochs_without_progress", state.early_stopping.epochs_without_progress}}},
               {"history", Json::array()}};
  for (const EpochRecord& record : state.history) {
    json["history"].push_back(epoch_record(record));
  }
  return json.dump();
}

TrainingState training_state_from_json(const std::string& text, const std::string& source) {
  try {
    return read_state(Json::parse(text));
  } catch (const Json::exception& error) {
    throw InputError("{}: the training state cannot be read: {}", source, error.what());
  } catch (const InputError& error) {
    throw InputError("{}: the training state cannot be read: {}", source, error.what());
  }
}

}  // namespace stemfabric
