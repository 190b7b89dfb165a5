// Reading and printing configurations. Every problem is a ConfigError "file:line: key: what is
// wrong; did you mean '…'?"; texts that come out of other files of ours (weights, checkpoints) give
// InputErrors that name that file.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "trainer/config/config.h"

namespace stemfabric {

struct LoadedConfig {
  Config config;
  // Origin of each leaf key ("training.lr"): "default", "configs/a.yaml:12", "--set", "--epochs".
  std::map<std::string, std::string> origins;
  bool is_set(const std::string& key) const;  // its origin is not "default"
};

// One override: key "training.lr", YAML text "1e-4", and what to call it in errors.
struct ConfigOverride {
  std::string key;
  std::string value;
  std::string origin = "--set";
};

// Defaults, then the file (first the file that it `extends:`, relative to itself, and so on), then
// the overrides in order. Only single values are checked; see validate_config.
LoadedConfig load_config(const std::filesystem::path& file_or_empty,
                         const std::vector<ConfigOverride>& overrides);
// Splits "a.b=c"; ConfigError if it is not of that form.
ConfigOverride parse_override(const std::string& text);

// Every key in the order of config.h, with its help text above it or, with_origins, its origin
// behind it. load_config reads the result back to the same values.
std::string config_to_yaml(const LoadedConfig& config, bool with_origins);
std::string config_to_json(const Config& config);  // one line
Config config_from_json(const std::string& text, const std::string& source);
std::string model_config_to_json(
    const ModelConfig& config);  // the `config` entry of a weights file
// Reads such an entry; unknown keys are ignored so that newer files stay readable.
ModelConfig model_config_from_json(const std::string& text, const std::string& source);
// JSON Schema (draft 2020-12) of a configuration file, for editors.
std::string config_json_schema();
// Rules between fields (heads divide dim, …), naming the keys and their origins.
void validate_config(const LoadedConfig& config);

}  // namespace stemfabric
