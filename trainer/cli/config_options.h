// The options --config and --set that several commands share.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "trainer/config/config_io.h"

namespace stemfabric::cli {

struct ConfigOptions {
  std::string file;
  std::vector<std::string> set;

  void add_to(CLI::App& command) {
    command.add_option("--config", file, "Configuration file (YAML); without one, the defaults")
        ->type_name("FILE");
    command.add_option("--set", set, "Override one value: section.key=value (may be repeated)")
        ->type_name("KEY=VALUE")
        ->allow_extra_args(false);
  }

  // File, then --set in order, then `last` (what options of their own stand for); validated.
  LoadedConfig load(const std::vector<ConfigOverride>& last = {}) const {
    std::vector<ConfigOverride> overrides;
    for (const auto& text : set) {
      overrides.push_back(parse_override(text));
    }
    overrides.insert(overrides.end(), last.begin(), last.end());
    LoadedConfig loaded = load_config(file, overrides);
    validate_config(loaded);
    return loaded;
  }
};

}  // namespace stemfabric::cli
