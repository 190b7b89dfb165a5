// The frame around every command: spelling of options, help, errors and exit statuses.
#pragma once

#include <CLI/CLI.hpp>
#include <span>
#include <string>
#include <vector>

#include "trainer/cli/command.h"

namespace stemfabric::cli {

using AddCommand = void (*)(CLI::App& app, Run& run);

// Parses the arguments (without the program's name), runs the command and returns the exit status.
// Never throws: whatever a command throws becomes one line on standard error.
int run_application(std::vector<std::string> args, std::span<const AddCommand> commands);

// In a catch block, what run_application() does with an exception: one line on standard error, if
// it is to be told here, and the exit status.
int report_current_exception(const std::string& command, bool tell = true);

// `--outputDir=x` -> `--output-dir=x`; only names of options, up to a lone `--`.
std::vector<std::string> normalise_option_names(std::vector<std::string> args);

// One line for standard error: line breaks become spaces, other control characters are escaped.
std::string one_line(std::string_view text);

}  // namespace stemfabric::cli
