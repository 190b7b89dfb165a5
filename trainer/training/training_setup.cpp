#include "trainer/training/training_setup.h"

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <variant>

#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "runtime/io/safetensors.h"
#include "trainer/model/trained_model.h"
#include "trainer/model/weights_file.h"
#include "trainer/training/data_settings.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using Field = std::variant<int64_t*, double*, std::string*>;

// The leaves of the model section by key: "dim", "attention.activation".
struct CollectFields {
  std::map<std::string, Field>& fields;
  std::string prefix = {};

  template <typename T>
  void operator()(const char* key, T& member, const char* /*help*/) {
    add(key, member);
  }
  template <typename T>
  void operator()(const char* key, T& member, const char* /*help*/, const Constraint&) {
    add(key, member);
  }
  template <typename T>
  void add(const char* key, T& member) {
    if constexpr (std::is_same_v<T, AttentionModelConfig>) {
      member.visit(CollectFields{fields, prefix + key + "."});
    } else {
      fields.emplace(prefix + key, &member);
    }
  }
};

std::map<std::string, Field> fields_of(ModelConfig& model) {
  std::map<std::string, Field> fields;
  model.visit(CollectFields{fields});
  return fields;
}

std::string text_of(const Field& field) {
  if (const auto* text = std::get_if<std::string*>(&field)) {
    return **text;
  }
  if (const auto* integer = std::get_if<int64_t*>(&field)) {
    return std::to_string(**integer);
  }
  return fmt::format("{}", *std::get<double*>(field));
}

bool equal(const Field& a, const Field& b) {
  return std::visit([&](auto* value) { return *value == *std::get<decltype(value)>(b); }, a);
}

void assign(const Field& to, const Field& from) {
  std::visit([&](auto* value) { *value = *std::get<decltype(value)>(from); }, to);
}

// What determines the tensors' shapes and names, or how they are read.
bool is_structural(const std::string& key) {
  constexpr std::array kKeys = {"input_dim",
                                "dim",
                                "depth",
                                "heads",
                                "dim_ff",
                                "output_dim",
                                "max_sequence_length",
                                "norm_placement",
                                "positions",
                                "mask",
                                "mask_bands",
                                "mask_channels"};
  return std::find(kKeys.begin(), kKeys.end(), key) != kKeys.end();
}

// Whether the weights file itself says what `key` is; else read_model_config() gave a default.
bool file_states(const Json& stored, const std::string& key) {
  const std::size_t dot = key.find('.');
  const Json* section = &stored;
  if (dot != std::string::npos) {
    const auto found = stored.find(key.substr(0, dot));
    if (found == stored.end()) {
      return false;
    }
    section = &*found;
  }
  return section->is_object() &&
         section->contains(key.substr(dot == std::string::npos ? 0 : dot + 1));
}

Json stored_config(const fs::path& path) {
  const SafetensorsFile file(path);
  const auto entry = file.metadata().find("config");
  if (entry == file.metadata().end()) {
    return Json::object();
  }
  const Json json = Json::parse(entry->second, nullptr, /*allow_exceptions=*/false);
  return json.is_object() ? json : Json::object();
}

std::string origin_of(const LoadedConfig& config, const std::string& key) {
  const auto origin = config.origins.find(key);
  return origin == config.origins.end() ? "default" : origin->second;
}

// The model of the weights file with what the configuration sets.
ModelConfig merge_with_weights(const LoadedConfig& loaded, const fs::path& path) {
  ModelConfig model = read_model_config(path);
  ModelConfig wanted = loaded.config.model;
  const Json stored = stored_config(path);
  const auto fields = fields_of(model);
  for (const auto& [name, want] : fields_of(wanted)) {
    const std::string key = "model." + name;
    const Field& have = fields.at(name);
    const auto* size = std::get_if<int64_t*>(&want);
    const bool open = !loaded.is_set(key) || (size != nullptr && **size == 0);
    if (open || equal(have, want)) {
      continue;
    }
    // Sizes are read from the tensors if the metadata lack them; the other structural keys are
    // known only from the metadata.
    const bool known = file_states(stored, name) ||
                       (size != nullptr && **std::get_if<int64_t*>(&have) != 0 && name != "heads");
    if (is_structural(name) && known) {
      throw ConfigError("{}: {} is {}, but the weights in {} (training.init_from) have {}",
                        origin_of(loaded, key), key, text_of(want), path.string(), text_of(have));
    }
    if (known && name.find("dropout") == std::string::npos) {
      log_warning("{} is {} ({}), but {} was trained with {}", key, text_of(want),
                  origin_of(loaded, key), path.string(), text_of(have));
    }
    assign(have, want);
  }
  return model;
}

// A size that is still open becomes the data set's; one that is set must be it.
void settle_size(const LoadedConfig& loaded, const char* name, int64_t& value, int64_t of_data,
                 const TrainingSetup& setup, const char* what) {
  if (value == 0) {
    value = of_data;
  }
  if (value != of_data) {
    const std::string key = std::string("model.") + name;
    throw ConfigError("{}: {} is {}, but the data set {} has {} {}",
                      loaded.is_set(key) ? origin_of(loaded, key)
                                         : setup.init_from.string() + " (training.init_from)",
                      key, value, setup.data.root.string(), of_data, what);
  }
}

void settle_model(const LoadedConfig& loaded, TrainingSetup& setup) {
  const Dataset& train = *setup.data.train;
  ModelConfig& model = setup.model;
  settle_size(loaded, "input_dim", model.input_dim, train.features(), setup, "features per token");
  settle_size(loaded, "output_dim", model.output_dim, train.outputs(), setup,
              "outputs per stem and token");
  if (model.max_sequence_length == 0) {
    model.max_sequence_length = train.tokens();
  }
  if (model.max_sequence_length < train.tokens()) {
    const std::string key = "model.max_sequence_length";
    throw ConfigError("{}: {} is {}, but the samples of {} have {} tokens",
                      loaded.is_set(key) ? origin_of(loaded, key)
                                         : setup.init_from.string() + " (training.init_from)",
                      key, model.max_sequence_length, setup.data.root.string(), train.tokens());
  }
}

InputStatistics identity_statistics(int64_t features) {
  const auto n = static_cast<std::size_t>(features);
  return {.mean = std::vector<float>(n, 0.0F), .scale = std::vector<float>(n, 1.0F)};
}

// Empty if training starts anew.
std::filesystem::path weights_to_start_from(const std::string& init_from) {
  try {
    return init_from.empty() ? std::filesystem::path() : find_weights(init_from);
  } catch (const InputError& error) {
    throw InputError("training.init_from: {}", error.what());
  }
}

void prepare_snapshot_training(const LoadedConfig& loaded, TrainingSetup& setup) {
  setup.data = open_dataset(setup.config.data.dataset_dir);
  if (setup.model.mask != "none") {
    throw ConfigError(
        "{}: model.mask is {}, but {} holds snapshots, which have no spectra; use none, or a data "
        "set made by `stemfabric dataset --audio`",
        loaded.is_set("model.mask") || setup.init_from.empty()
            ? origin_of(loaded, "model.mask")
            : setup.init_from.string() + " (training.init_from)",
        setup.model.mask, setup.config.data.dataset_dir);
  }
  if (setup.data.train->size() == 0) {
    throw InputError("{}: the training split has no samples", setup.data.root.string());
  }
  if (setup.data.validation && setup.data.validation->size() == 0) {
    setup.data.validation.reset();
  }
  setup.units = TargetUnits(setup.data.target_scale);
  setup.data.train->scale_targets(setup.units.to_training());
  if (setup.data.validation) {
    setup.data.validation->scale_targets(setup.units.to_training());
  }
  take_data_settings(loaded, setup.data, setup.config);
  setup.config.loss.correction_weight = apply_correction_weight(loaded, setup.data);
  settle_model(loaded, setup);
}

// Of weights that are not started from.
InputStatistics data_statistics(const TrainingSetup& setup, int64_t threads) {
  if (setup.audio) {
    return audio_statistics(setup.audio->train, setup.config.audio,
                            threads > 0 ? threads : setup.config.training.threads);
  }
  return setup.data.statistics.value_or(identity_statistics(setup.model.input_dim));
}

}  // namespace

TrainingSetup prepare_training(const LoadedConfig& loaded, int64_t threads) {
  const Config& config = loaded.config;
  if (config.data.dataset_dir.empty()) {
    throw ConfigError(
        "data.dataset_dir is not set: name a folder made by `stemfabric dataset`, with "
        "--dataset-dir or in the configuration");
  }
  TrainingSetup setup;
  setup.config = config;
  setup.init_from = weights_to_start_from(config.training.init_from);
  setup.model =
      setup.init_from.empty() ? config.model : merge_with_weights(loaded, setup.init_from);
  if (is_audio_dataset(config.data.dataset_dir)) {
    prepare_audio_training(loaded, setup);
  } else {
    prepare_snapshot_training(loaded, setup);
  }
  setup.config.model = setup.model;
  if (setup.init_from.empty()) {
    setup.statistics = data_statistics(setup, threads);
  } else {
    const ParameterTable table(setup.model);
    std::vector<float> block(static_cast<std::size_t>(table.block_elements()));
    setup.statistics = read_weights(setup.init_from, table, block.data());
  }
  return setup;
}

const SampleSource& TrainingSetup::train() const {
  return audio ? static_cast<const SampleSource&>(audio->train) : *data.train;
}

const SampleSource* TrainingSetup::validation() const {
  if (audio) {
    return audio->validation ? &*audio->validation : nullptr;
  }
  return data.validation ? &*data.validation : nullptr;
}

void initialise_weights(const TrainingSetup& setup, const ParameterTable& table, uint64_t seed,
                        float* block) {
  if (setup.init_from.empty()) {
    table.initialize(block, seed);
  } else {
    read_weights(setup.init_from, table, block);
    setup.units.enter(table, block);
  }
}

}  // namespace stemfabric
