#include "trainer/cli/application.h"

#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <memory>
#include <new>
#include <system_error>
#include <utility>

#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "runtime/core/progress.h"
#include "trainer/cli/option_values.h"
#include "trainer/config/suggest.h"
#include "trainer/version.h"

namespace stemfabric::cli {
namespace {

// "UINT:INT in [0 - 9]" -> "INT in [0 - 9]", "TEXT:{text,json}" -> "{text,json}": what a value may
// be says its type, too. "DAYS:FLOAT in [0 - 9]" -> "DAYS in [0 - 9]": a name of ours says more.
std::string value_text(const std::string& type_name) {
  const std::size_t colon = type_name.find(':');
  if (colon == std::string::npos) {
    return type_name;
  }
  const std::string name = type_name.substr(0, colon);
  const std::string allowed = type_name.substr(colon + 1);
  const std::size_t range = allowed.find(" in [");
  if (range == std::string::npos) {
    return allowed.starts_with('{') ? allowed : type_name;
  }
  const bool types = name == "INT" || name == "UINT" || name == "FLOAT";
  return types ? allowed : name + allowed.substr(range);
}

// Help with "(default: x)" behind every option that takes a value.
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() { column_width(36); }
  std::string make_option_opts(const CLI::Option* option) const override {
    if (option->get_type_name().empty()) {
      return {};  // a flag
    }
    std::string text = " " + value_text(option->get_type_name());
    const std::string value = option->get_default_str();
    const bool none = value.empty() || value == "[]" || value == "\"\"";
    return text +
           (option->get_required() ? " (required)" : " (default: " + (none ? "none" : value) + ")");
  }
};

struct GlobalOptions {
  bool quiet = false;
  std::string log_format = "text";
};

void add_global_options(CLI::App& app, GlobalOptions& options) {
  app.add_flag("--quiet", options.quiet, "No progress display; only warnings and errors");
  app.add_option("--log-format", options.log_format, "Messages as text or as JSON lines")
      ->check(one_of({"text", "json"}));
  app.set_version_flag("--version", std::string(version_line()),
                       "Version and what this build can use");
}

bool is_option(const std::string& arg) { return arg.size() > 1 && arg.front() == '-'; }

// The first word that is no option: the command. Empty if there is none.
std::string command_word(const std::vector<std::string>& args) {
  for (std::size_t i = 0; i < args.size(); ++i) {
    if (!is_option(args[i])) {
      return args[i];
    }
    if (args[i] == "--log-format") {
      ++i;  // its value
    }
  }
  return {};
}

// So that errors in the command line itself already come in the form that was asked for.
void apply_log_format_early(const std::vector<std::string>& args) {
  for (std::size_t i = 0; i < args.size(); ++i) {
    if (args[i] == "--log-format=json" ||
        (args[i] == "--log-format" && i + 1 < args.size() && args[i + 1] == "json")) {
      set_log_format(LogFormat::kJson);
    }
  }
}

std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(command->get_name());
  }
  return names;
}

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const auto& name : option->get_lnames()) {
      names.push_back("--" + name);
    }
  }
  return names;
}

// What the parser could not place: name it, and the nearest option of the command.
[[noreturn]] void throw_unknown_argument(const CLI::App& app) {
  std::vector<std::string> known = option_names(app);
  std::string help = "stemfabric --help";
  for (const CLI::App* command : app.get_subcommands()) {
    const auto own = option_names(*command);
    known.insert(known.begin(), own.begin(), own.end());
    help = "stemfabric " + command->get_name() + " --help";
  }
  const auto remaining = app.remaining(true);
  const auto unknown = std::find_if(remaining.begin(), remaining.end(), is_option);
  if (unknown != remaining.end()) {
    const std::string name = unknown->substr(0, unknown->find('='));
    throw UsageError("unknown option '{}' (`{}` lists them){}", name, help,
                     did_you_mean(name, known));
  }
  throw UsageError("unexpected argument '{}'; `{}` shows the usage",
                   remaining.empty() ? "" : remaining.front(), help);
}

// The option that an argument names, of the command or of the application; null if it names none.
const CLI::Option* named_option(const CLI::App& app, const std::string& arg) {
  const std::string name = arg.substr(0, arg.find('='));
  for (const CLI::App* command : app.get_subcommands()) {
    if (const CLI::Option* option = command->get_option_no_throw(name)) {
      return option;
    }
  }
  return app.get_option_no_throw(name);
}

// Too few or too many values. The parser's text begins with the option at fault.
[[noreturn]] void throw_wrong_count(const CLI::App& app, const std::vector<std::string>& args,
                                    const std::string& text) {
  const std::string name = text.substr(0, text.find(':'));
  const auto given = std::count_if(args.begin(), args.end(), [&](const std::string& arg) {
    return arg == name || arg.starts_with(name + "=");
  });
  const CLI::Option* option = named_option(app, name);
  if (option != nullptr && option->get_expected_max() == 0) {
    throw UsageError("{} is a switch and takes no value", name);
  }
  if (given > 1 && (option == nullptr || option->get_expected_max() <= 1)) {
    throw UsageError("{} is given {} times; give it once", name, given);
  }
  throw UsageError("{} needs a value behind it{}", name,
                   option == nullptr ? "" : ": " + value_text(option->get_type_name()));
}

// `--input --output x`: the parser takes the second option for the value of the first, and then
// misses the second.
void refuse_options_as_values(const CLI::App& app) {
  for (const CLI::App* command : app.get_subcommands()) {
    for (const CLI::Option* option : command->get_options()) {
      for (const std::string& value : option->results()) {
        if (value.starts_with("--") && named_option(app, value) != nullptr) {
          throw UsageError("{} needs a value behind it, not the option {}", option->get_name(),
                           value);
        }
      }
    }
  }
}

// What the parser lets pass: values for switches, and empty values (of a variable that a script
// forgot to set, say), which would mean "not given".
void check_values(const CLI::App& app, const std::vector<std::string>& args) {
  for (const std::string& arg : args) {
    if (arg == "--") {
      break;
    }
    const CLI::Option* option = is_option(arg) ? named_option(app, arg) : nullptr;
    if (option != nullptr && option->get_expected_max() == 0 && arg.find('=') != arg.npos) {
      throw UsageError("{} is a switch and takes no value", arg.substr(0, arg.find('=')));
    }
  }
  std::vector<const CLI::App*> apps = {&app};
  for (const CLI::App* command : app.get_subcommands()) {
    apps.push_back(command);
  }
  for (const CLI::App* owner : apps) {
    for (const CLI::Option* option : owner->get_options()) {
      const auto& values = option->results();
      if (std::find(values.begin(), values.end(), "") != values.end()) {
        throw UsageError("{} has an empty value; give one or leave the option away",
                         option->get_name());
      }
    }
  }
}

// `command` is set once it is known, so that errors can be introduced with it.
void parse(CLI::App& app, const std::vector<std::string>& args, std::string& command) {
  const std::string word = command_word(args);
  const auto names = command_names(app);
  if (!word.empty() && std::find(names.begin(), names.end(), word) == names.end()) {
    throw UsageError("unknown command '{}' (`stemfabric --help` lists them){}", word,
                     did_you_mean(word, names));
  }
  command = word;
  try {
    app.parse(std::vector<std::string>(args.rbegin(), args.rend()));  // CLI11 takes them reversed
  } catch (const CLI::Success&) {
    throw;
  } catch (const CLI::ExtrasError&) {
    throw_unknown_argument(app);
  } catch (const CLI::RequiredError& error) {
    refuse_options_as_values(app);
    // A misspelt option is why the right one is missing.
    const auto remaining = app.remaining(true);
    if (std::any_of(remaining.begin(), remaining.end(), is_option)) {
      throw_unknown_argument(app);
    }
    throw UsageError("{}; `stemfabric {} --help` shows the usage", error.what(), command);
  } catch (const CLI::ArgumentMismatch& error) {
    throw_wrong_count(app, args, error.what());
  } catch (const CLI::ConversionError&) {
    check_values(app, args);
    throw UsageError("an option has a value of the wrong kind; `stemfabric {} --help` lists them",
                     command);
  } catch (const CLI::ParseError& error) {
    const std::string_view text = error.what();
    throw UsageError("{}{} `stemfabric {}--help` shows the usage", text,
                     text.ends_with('?') ? "" : ";", command.empty() ? "" : command + " ");
  }
  check_values(app, args);
}

int parse_and_run(const std::vector<std::string>& args, std::span<const AddCommand> commands,
                  std::string& command) {
  CLI::App app("Trains, evaluates and runs the quantum transformer for music stem separation.",
               "stemfabric");
  GlobalOptions global;
  Run run;
  app.formatter(std::make_shared<HelpFormatter>());
  app.option_defaults()->always_capture_default();
  app.set_help_flag("-h,--help", "Show this help");
  app.fallthrough();
  app.require_subcommand(0, 1);
  add_global_options(app, global);
  for (const AddCommand add : commands) {
    add(app, run);
  }
  app.footer(
      "`stemfabric <command> --help` lists the options of a command. Options may be written\n"
      "--output-dir or --outputDir. Exit status: 0 done, 2 usage or configuration, 3 input data,\n"
      "75 stopped by a signal after saving a checkpoint (run it again), 76 another rank died or\n"
      "hangs (run it again), 1 anything else.");
  try {
    parse(app, args, command);
  } catch (const CLI::CallForVersion& version) {
    fmt::print("{}\n", version.what());
    return 0;
  } catch (const CLI::Success&) {
    fmt::print("{}", app.help());
    return 0;
  }
  if (!run) {
    throw UsageError("no command given; `stemfabric --help` lists the commands");
  }
  set_log_format(global.log_format == "json" ? LogFormat::kJson : LogFormat::kText);
  if (global.quiet) {
    set_progress_enabled(false);
    set_log_level(LogLevel::kWarning);
  }
  return run();
}

int report(const std::string& command, int status, std::string_view message) {
  const std::string line = fmt::format("stemfabric{}{}: error: {}", command.empty() ? "" : " ",
                                       command, one_line(message));
  if (log_format() == LogFormat::kJson) {
    log_message(LogLevel::kError, line);
  } else {
    fmt::print(stderr, "{}{}{}\n", log_origin(), log_origin().empty() ? "" : ": ", line);
  }
  return status;
}

// Output that a full disk or a closed pipe swallowed is no success.
int flush_output(const std::string& command, int status) {
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    return report(command, 1,
                  fmt::format("standard output could not be written: {}", std::strerror(errno)));
  }
  return status;
}

constexpr const char* kOutOfMemory =
    "not enough memory; use a smaller training.batch_size (with more "
    "training.gradient_accumulation_steps), a smaller model or a machine with more memory";

std::pair<int, std::string> status_and_message_of_current_exception() {
  try {
    throw;
  } catch (const Error& error) {
    return {exit_status(error.kind()), error.what()};
  } catch (const std::bad_alloc&) {
    return {exit_status(ErrorKind::kOutOfMemory), kOutOfMemory};
  } catch (const std::length_error&) {
    return {exit_status(ErrorKind::kOutOfMemory), kOutOfMemory};
  } catch (const std::filesystem::filesystem_error& error) {
    return {exit_status(ErrorKind::kIo),
            fmt::format("{}: {}; check the path and its permissions", error.path1().string(),
                        error.code().message())};
  } catch (const std::system_error& error) {
    const char* what = std::ferror(stdout) != 0 ? "standard output could not be written"
                                                : "the operating system refused";
    return {exit_status(ErrorKind::kIo), fmt::format("{}: {}", what, error.code().message())};
  } catch (const std::exception& error) {
    return {exit_status(ErrorKind::kInternal),
            fmt::format("internal error ({}); please report this as a bug", error.what())};
  } catch (...) {
    return {exit_status(ErrorKind::kInternal),
            "internal error of unknown kind; please report this as a bug"};
  }
}

}  // namespace

std::vector<std::string> normalise_option_names(std::vector<std::string> args) {
  for (auto& arg : args) {
    if (arg == "--") {
      break;
    }
    if (!arg.starts_with("--")) {
      continue;
    }
    const std::size_t end = std::min(arg.find('='), arg.size());
    std::string name;
    for (std::size_t i = 0; i < end; ++i) {
      const auto c = static_cast<unsigned char>(arg[i]);
      if (std::isupper(c) != 0) {
        name += i > 2 ? "-" : "";
        name += static_cast<char>(std::tolower(c));
      } else {
        name += arg[i];
      }
    }
    arg.replace(0, end, name);
  }
  return args;
}

std::string one_line(std::string_view text) {
  std::string line;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n' || c == '\r' || c == '\t') {
      line += ' ';
    } else if (byte < 0x20 || byte == 0x7f) {
      line += fmt::format("\\x{:02x}", byte);
    } else {
      line += c;
    }
  }
  while (!line.empty() && line.back() == ' ') {
    line.pop_back();
  }
  return line;
}

int report_current_exception(const std::string& command, bool tell) {
  const auto [status, message] = status_and_message_of_current_exception();
  if (tell) {
    report(command, status, message);
  }
  return status;
}

int run_application(std::vector<std::string> args, std::span<const AddCommand> commands) {
  std::string command;
  try {
    args = normalise_option_names(std::move(args));
    if (!args.empty() && args.size() <= 2 && args[0] == "help") {
      args = args.size() == 2 ? std::vector<std::string>{args[1], "--help"}
                              : std::vector<std::string>{"--help"};
    }
    apply_log_format_early(args);
    const int status = parse_and_run(args, commands, command);
    return flush_output(command, status);
  } catch (...) {
    return report_current_exception(command);
  }
}

}  // namespace stemfabric::cli
