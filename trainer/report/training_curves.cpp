#include "trainer/report/training_curves.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "runtime/io/file.h"

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

struct Points {
  Series train{.name = "training loss", .x = {}, .y = {}};
  Series validation{.name = "validation loss", .x = {}, .y = {}};
  Series steps{.name = "loss of a step", .x = {}, .y = {}};
  Series rates{.name = "learning rate", .x = {}, .y = {}};
};

void add_line(const Json& line, Points& points) {
  const double step = number_or_none(line, "step");
  if (const auto kind = line.find("kind"); kind != line.end() && *kind == "epoch") {
    const double epoch = number_or_none(line, "epoch");
    points.train.x.push_back(epoch);
    points.train.y.push_back(number_or_none(line, "train_loss"));
    points.validation.x.push_back(epoch);
    points.validation.y.push_back(number_or_none(line, "val_loss"));
  } else if (line.contains("loss")) {
    points.steps.x.push_back(step);
    points.steps.y.push_back(number_or_none(line, "loss"));
    points.rates.x.push_back(step);
    points.rates.y.push_back(number_or_none(line, "lr"));
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
  const auto list = [&](const char* key) {
    std::vector<double> values;
    if (history.contains(key) && history[key].is_array()) {
      for (const Json& value : history[key]) {
        values.push_back(value.is_number() ? value.get<double>() : kNone);
      }
    }
    values.resize(history["epoch"].size(), kNone);
    return values;
  };
  points.train.x = points.validation.x = list("epoch");
  points.train.y = list("loss");
  points.validation.y = list("val_loss");
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
  keep_if_useful(curves.epochs, averaged(points.train));
  keep_if_useful(curves.epochs, averaged(points.validation));
  keep_if_useful(curves.steps, averaged(points.steps));
  const auto [low, high] = std::ranges::minmax_element(points.rates.y);
  if (low != points.rates.y.end() && *low < *high) {  // a constant rate needs no chart
    keep_if_useful(curves.rates, averaged(points.rates));
  }
  return curves;
}

}  // namespace stemfabric
