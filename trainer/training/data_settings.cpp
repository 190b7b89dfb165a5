#include "trainer/training/data_settings.h"

#include <nlohmann/json.hpp>
#include <string>

#include "runtime/core/check.h"
#include "runtime/core/log.h"

namespace stemfabric {
namespace {

using Json = nlohmann::json;

constexpr const char* kWeightKey = "loss.correction_weight";

// manifest[section][name] if it is there and of the value's kind; other programs' manifests may
// hold anything.
template <typename T>
bool read_entry(const Json& manifest, const char* section, const char* name, T& value) {
  const auto outer = manifest.find(section);
  if (outer == manifest.end() || !outer->is_object() || !outer->contains(name)) {
    return false;
  }
  const Json& entry = (*outer)[name];
  if constexpr (std::is_same_v<T, std::string>) {
    if (!entry.is_string()) {
      return false;
    }
  } else if constexpr (std::is_same_v<T, int64_t>) {
    if (!entry.is_number_integer()) {
      return false;
    }
  } else if (!entry.is_number()) {
    return false;
  }
  value = entry.get<T>();
  return true;
}

template <typename T>
void take(const LoadedConfig& loaded, const DatasetFolder& data, const std::string& key,
          const T& made_with, T& value) {
  if (value != made_with && loaded.is_set(key)) {
    log_warning("{} is {} ({}), which has no effect here: the data set {} was made with {}", key,
                value, loaded.origins.at(key), data.root.string(), made_with);
  }
  value = made_with;
}

}  // namespace

void take_data_settings(const LoadedConfig& loaded, const DatasetFolder& data, Config& effective) {
  const Json manifest = Json::parse(data.manifest, nullptr, /*allow_exceptions=*/false);
  if (!manifest.is_object()) {
    return;
  }
  double ratio = 0;
  if (read_entry(manifest, "split", "trainRatio", ratio) && ratio >= 0 && ratio <= 1) {
    take(loaded, data, "data.train_ratio", ratio, effective.data.train_ratio);
  }
  int64_t number = 0;
  if (read_entry(manifest, "split", "seed", number) && number >= 0) {
    take(loaded, data, "data.split_seed", number, effective.data.split_seed);
  }
  std::string word;
  if (read_entry(manifest, "targets", "kind", word) && (word == "samples" || word == "bands")) {
    take(loaded, data, "data.snapshot_targets", word, effective.data.snapshot_targets);
  }
  if (!data.train || !read_entry(manifest, "features", "layout", word) ||
      (word != "time_grid" && word != "packed")) {
    return;
  }
  take(loaded, data, "features.layout", word, effective.features.layout);
  constexpr int64_t kMost = 4096;  // of both keys
  if (word == "time_grid" && data.train->tokens() <= kMost) {
    take(loaded, data, "features.time_bins", data.train->tokens(), effective.features.time_bins);
  } else if (word == "packed" && data.train->features() <= kMost) {
    take(loaded, data, "features.packed_width", data.train->features(),
         effective.features.packed_width);
  }
}

double apply_correction_weight(const LoadedConfig& loaded, DatasetFolder& data) {
  const double wanted = loaded.config.loss.correction_weight;
  const double usual = LossConfig().correction_weight;
  if (!data.correction_weight) {
    if (loaded.is_set(kWeightKey) && wanted != usual) {
      log_warning(
          "{} has no effect: {} has no manifest that says which weight its stem_weight was made "
          "with",
          kWeightKey, data.root.string());
    }
    return usual;
  }
  const double made_with = *data.correction_weight;
  if (!loaded.is_set(kWeightKey) || made_with == wanted) {
    return made_with;
  }
  if (made_with == 0) {
    throw ConfigError(
        "{}: {} is {}, but the data set {} was made with 0 and holds no corrections any more; make "
        "it again with the weight that is wanted",
        loaded.origins.at(kWeightKey), kWeightKey, wanted, data.root.string());
  }
  const double factor = wanted / made_with;
  data.train->rescale_corrections(factor);
  if (data.validation) {
    data.validation->rescale_corrections(factor);
  }
  return wanted;
}

}  // namespace stemfabric
