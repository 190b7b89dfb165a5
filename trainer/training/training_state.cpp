#include "trainer/training/training_state.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "runtime/core/check.h"
#include "trainer/training/json_fields.h"

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

double read_number(const Json& json, const char* key, const std::string& source) {
  if (json.is_string()) {
    const auto& word = json.get_ref<const std::string&>();
    if (word == "nan") {
      return std::numeric_limits<double>::quiet_NaN();
    }
    if (word == "inf" || word == "-inf") {
      const double infinity = std::numeric_limits<double>::infinity();
      return word == "inf" ? infinity : -infinity;
    }
  }
  return json_value<double>(json, key, source);
}

double read_number_of(const Json& json, const char* key, const std::string& source) {
  return read_number(json_member(json, key, source), key, source);
}

Json stem_values(const StemValues& values) {
  Json array = Json::array();
  for (const double value : values) {
    array.push_back(number(value));
  }
  return array;
}

StemValues read_stem_values(const Json& json, const char* key, const std::string& source) {
  const Json& list = json_member(json, key, source);
  StemValues values{};
  if (!list.is_array() || list.size() != values.size()) {
    throw InputError("{}: `{}` is no list of {} numbers; it is damaged or was edited", source, key,
                     values.size());
  }
  for (std::size_t s = 0; s < values.size(); ++s) {
    values[s] = read_number(list[s], key, source);
  }
  return values;
}

Json loss_values(const LossValues& loss) {
  return {{"total", number(loss.total)}, {"stem", stem_values(loss.stem)}};
}

LossValues read_loss_values(const Json& json, const std::string& source) {
  return {.total = read_number_of(json, "total", source),
          .stem = read_stem_values(json, "stem", source)};
}

Json epoch_record(const EpochRecord& record) {
  Json json = {{"epoch", record.epoch},
               {"step", record.step},
               {"lr", number(record.lr)},
               {"seconds", number(record.seconds)},
               {"train", loss_values(record.train)},
               {"validation", record.validation ? loss_values(*record.validation) : Json()}};
  if (record.validation_sdr) {
    json["validation_sdr"] = stem_values(*record.validation_sdr);
  }
  return json;
}

EpochRecord read_epoch_record(const Json& json, const std::string& source) {
  EpochRecord record;
  record.epoch = json_field<int64_t>(json, "epoch", source);
  record.step = json_field<int64_t>(json, "step", source);
  record.lr = read_number_of(json, "lr", source);
  record.seconds = read_number_of(json, "seconds", source);
  record.train = read_loss_values(json_member(json, "train", source), source);
  if (!json_member(json, "validation", source).is_null()) {
    record.validation = read_loss_values(json_member(json, "validation", source), source);
  }
  if (json.contains("validation_sdr")) {
    record.validation_sdr = read_stem_values(json, "validation_sdr", source);
  }
  return record;
}

TrainingState read_state(const Json& json, const std::string& source) {
  TrainingState state;
  state.step = json_field<int64_t>(json, "step", source);
  state.epoch = json_field<int64_t>(json, "epoch", source);
  state.step_in_epoch = json_field<int64_t>(json, "step_in_epoch", source);
  state.optimizer_steps = json_field<int64_t>(json, "optimizer_steps", source);
  state.skipped_steps = json_field<int64_t>(json, "skipped_steps", source);
  state.skipped_in_a_row = json_field<int64_t>(json, "skipped_in_a_row", source);
  state.seconds = read_number_of(json, "seconds", source);
  state.last_lr = read_number_of(json, "last_lr", source);
  state.metrics_bytes = json_field<uint64_t>(json, "metrics_bytes", source);
  state.epoch_metrics_bytes = json_field<uint64_t>(json, "epoch_metrics_bytes", source);
  const Json& sums = json_member(json, "epoch_sums", source);
  state.epoch_sums = {.weighted = read_stem_values(sums, "weighted", source),
                      .plain = read_stem_values(sums, "plain", source),
                      .count = read_stem_values(sums, "count", source)};
  const Json& schedule = json_member(json, "schedule", source);
  state.schedule = {
      .lr = read_number_of(schedule, "lr", source),
      .best = read_number_of(schedule, "best", source),
      .epochs_without_progress = json_field<int64_t>(schedule, "epochs_without_progress", source)};
  const Json& stopping = json_member(json, "early_stopping", source);
  state.early_stopping = {
      .best = read_number_of(stopping, "best", source),
      .best_epoch = json_field<int64_t>(stopping, "best_epoch", source),
      .best_step = json_field<int64_t>(stopping, "best_step", source),
      .epochs_without_progress = json_field<int64_t>(stopping, "epochs_without_progress", source)};
  for (const Json& record : json_member(json, "history", source)) {
    state.history.push_back(read_epoch_record(record, source));
  }
  return state;
}

}  // namespace

double mean_of_finite(const StemValues& values) {
  double sum = 0;
  int count = 0;
  for (const double value : values) {
    if (std::isfinite(value)) {
      sum += value;
      ++count;
    }
  }
  return count > 0 ? sum / count : std::numeric_limits<double>::quiet_NaN();
}

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
  if (std::ranges::all_of(count, [](double n) { return n == 0; })) {
    // Not 0, which would be the best of all losses.
    mean.total = std::numeric_limits<double>::quiet_NaN();
    mean.stem.fill(mean.total);
    return mean;
  }
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
  return read_state(parse_json_object(text, source), source);
}

}  // namespace stemfabric
