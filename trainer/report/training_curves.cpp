#include "trainer/report/training_curves.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "runtime/io/file.h"
#include "trainer/training/phase_times.h"

namespace stemfabric {
namespace {

using Json = nlohmann::json;

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
constexpr std::size_t kLongestLine = 1 << 20;

double number_or_none(const Json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_number() ? it->get<double>() : kNone;
}

bool any_finite(const Series& series) {
  return std::ranges::any_of(series.y, [](double y) { return std::isfinite(y); });
}

void keep_if_useful(std::vector<Series>& list, Series series) {
  if (any_finite(series)) {
    list.push_back(std::move(series));
  }
}

// Equal numbers of neighbouring points become their average.
Series averaged(const Series& series) {
  const std::size_t group = (series.x.size() + kMostPoints - 1) / kMostPoints;
  if (group <= 1) {
    return series;
  }
  Series result{.name = fmt::format("{} (average of {})", series.name, group), .x = {}, .y = {}};
  for (std::size_t begin = 0; begin < series.x.size(); begin += group) {
    const std::size_t end = std::min(begin + group, series.x.size());
    double sum = 0;
    int64_t count = 0;
    for (std::size_t i = begin; i < end; ++i) {
      if (std::isfinite(series.y[i])) {
        sum += series.y[i];
        ++count;
      }
    }
    result.x.push_back((series.x[begin] + series.x[end - 1]) / 2);
    result.y.push_back(count > 0 ? sum / static_cast<double>(count) : kNone);
  }
  return result;
}

// Losses by epoch: of all stems together, or of one.
struct LossPair {
  Series train{.name = "training loss", .x = {}, .y = {}};
  Series validation{.name = "validation loss", .x = {}, .y = {}};
  void add(double epoch, double train_loss, double validation_loss) {
    train.x.push_back(epoch);
    train.y.push_back(train_loss);
    validation.x.push_back(epoch);
    validation.y.push_back(validation_loss);
  }
};

struct Points {
  LossPair total;
  std::array<LossPair, kStemCount> stems;
  Series sdr{.name = "SDR of validation chunks, dB, mean over stems", .x = {}, .y = {}};
  Series steps{.name = "loss of a step", .x = {}, .y = {}};
  Series rates{.name = "learning rate", .x = {}, .y = {}};
  Series norms{.name = "gradient norm, before clipping", .x = {}, .y = {}};
  std::vector<std::pair<std::string, double>> seconds;
  int64_t skipped = 0;
};

std::string of_stem(const char* loss, std::size_t stem) {
  return fmt::format("{}_{}", loss, kStemNames[stem]);
}

void add_seconds(const Json& line, bool of_step, Points& points) {
  const auto seconds = line.find("seconds");
  if (seconds == line.end() || !seconds->is_object()) {
    return;
  }
  for (const auto& [phase, value] : seconds->items()) {
    // Epochs repeat what their steps have told.
    const bool of_epoch = phase == "validation" || phase == "checkpoint";
    if (!value.is_number() || of_step == of_epoch) {
      continue;
    }
    const auto known =
        std::ranges::find(points.seconds, phase, &std::pair<std::string, double>::first);
    if (known == points.seconds.end()) {
      points.seconds.emplace_back(phase, value.get<double>());
    } else {
      known->second += value.get<double>();
    }
  }
}

void add_line(const Json& line, Points& points) {
  const double step = number_or_none(line, "step");
  if (const auto kind = line.find("kind"); kind != line.end() && *kind == "epoch") {
    const double epoch = number_or_none(line, "epoch");
    points.total.add(epoch, number_or_none(line, "train_loss"), number_or_none(line, "val_loss"));
    for (std::size_t s = 0; s < kStemCount; ++s) {
      points.stems[s].add(epoch, number_or_none(line, of_stem("train_loss", s).c_str()),
                          number_or_none(line, of_stem("val_loss", s).c_str()));
    }
    add_seconds(line, false, points);
  } else if (kind != line.end() && *kind == "validation") {
    points.sdr.x.push_back(number_or_none(line, "epoch"));
    points.sdr.y.push_back(number_or_none(line, "val_sdr"));
  } else if (line.contains("loss")) {
    points.steps.x.push_back(step);
    points.steps.y.push_back(number_or_none(line, "loss"));
    points.rates.x.push_back(step);
    points.rates.y.push_back(number_or_none(line, "lr"));
    points.norms.x.push_back(step);
    points.norms.y.push_back(number_or_none(line, "grad_norm"));
    points.skipped += line.contains("skipped") ? 1 : 0;
    add_seconds(line, true, points);
  }
}

void read_metrics(const std::filesystem::path& path, Points& points) {
  const MappedFile file(path);
  std::string_view rest(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    const Json json = line.size() <= kLongestLine
                          ? Json::parse(line, nullptr, /*allow_exceptions=*/false)
                          : Json();
    if (json.is_object()) {
      add_line(json, points);
    }
  }
}

// Lists by name, of equal length.
void read_history(const std::filesystem::path& path, Points& points) {
  const Json history = Json::parse(read_text_file(path, 256ULL << 20), nullptr, false);
  if (!history.is_object() || !history.contains("epoch") || !history["epoch"].is_array()) {
    return;
  }
  const auto list = [&](const std::string& key) {
    std::vector<double> values;
    if (history.contains(key) && history[key].is_array()) {
      for (const Json& value : history[key]) {
        values.push_back(value.is_number() ? value.get<double>() : kNone);
      }
    }
    values.resize(history["epoch"].size(), kNone);
    return values;
  };
  const auto fill = [&](LossPair& pair, const std::string& suffix) {
    pair.train.x = pair.validation.x = list("epoch");
    pair.train.y = list("loss" + suffix);
    pair.validation.y = list("val_loss" + suffix);
  };
  fill(points.total, "");
  for (std::size_t s = 0; s < kStemCount; ++s) {
    fill(points.stems[s], fmt::format("_{}", kStemNames[s]));
  }
}

}  // namespace

TrainingCurves read_training_curves(const std::filesystem::path& run_folder) {
  Points points;
  std::error_code error;
  for (const char* name : {"metrics.jsonl", "epochs.jsonl", "training_history.json"}) {
    const std::filesystem::path path = run_folder / name;
    try {
      if (run_folder.empty() || !std::filesystem::exists(path, error)) {
        continue;
      }
      std::string_view(name).ends_with(".jsonl") ? read_metrics(path, points)
                                                 : read_history(path, points);
    } catch (const IoError& failure) {
      log_warning("the report shows no curves from {}: {}", path.string(), failure.what());
    }
  }
  TrainingCurves curves;
  const auto keep_pair = [](std::vector<Series>& list, const LossPair& pair) {
    keep_if_useful(list, averaged(pair.train));
    keep_if_useful(list, averaged(pair.validation));
  };
  keep_pair(curves.epochs, points.total);
  for (std::size_t s = 0; s < kStemCount; ++s) {
    keep_pair(curves.stems[s], points.stems[s]);
  }
  keep_if_useful(curves.sdr, averaged(points.sdr));
  keep_if_useful(curves.steps, averaged(points.steps));
  keep_if_useful(curves.norms, averaged(points.norms));
  for (const std::string_view phase : kPhaseNames) {  // in the order in which they happen
    const auto known =
        std::ranges::find(points.seconds, phase, &std::pair<std::string, double>::first);
    if (known != points.seconds.end()) {
      curves.seconds.push_back(*known);
    }
  }
  curves.skipped = points.skipped;
  const auto [low, high] = std::ranges::minmax_element(points.rates.y);
  if (low != points.rates.y.end() && *low < *high) {  // a constant rate needs no chart
    keep_if_useful(curves.rates, averaged(points.rates));
  }
  return curves;
}

}  // namespace stemfabric
