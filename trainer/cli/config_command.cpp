// stemfabric config: the effective configuration, a check of it, or its schema.
#include <fmt/core.h>

#include <memory>

#include "runtime/core/check.h"
#include "trainer/cli/command.h"
#include "trainer/cli/config_options.h"

namespace stemfabric::cli {
namespace {

struct Options {
  ConfigOptions config;
  bool print = false;
  bool validate = false;
  bool schema = false;
};

int run_config(const Options& options) {
  if (options.schema) {
    fmt::print("{}", config_json_schema());
    return 0;
  }
  const LoadedConfig loaded = options.config.load();
  if (options.validate) {
    fmt::print("{}: valid\n", options.config.file.empty() ? "defaults" : options.config.file);
  } else {
    fmt::print("{}", config_to_yaml(loaded, true));
  }
  return 0;
}

}  // namespace

void add_config_command(CLI::App& app, Run& run) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "config", "Print the effective configuration, check it, or print its schema");
  auto* print = command->add_flag("--print", options->print,
                                  "Print every value and where it came from (the default)");
  auto* validate = command->add_flag("--validate", options->validate,
                                     "Only say whether the configuration is valid");
  auto* schema =
      command->add_flag("--schema", options->schema, "Print the JSON schema for editors");
  print->excludes(validate)->excludes(schema);
  validate->excludes(schema);
  options->config.add_to(*command);
  command->callback([&run, options] { run = [options] { return run_config(*options); }; });
}

}  // namespace stemfabric::cli
