// The frame of the command line: help, spelling, errors, exit statuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/integration/stemfabric.h"

namespace stemfabric::test {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;
using testing::StartsWith;

// The commands that `stemfabric --help` lists.
std::vector<std::string> listed_commands() {
  std::istringstream help(run_stemfabric({"--help"}).out);
  std::vector<std::string> commands;
  bool in_list = false;
  for (std::string line; std::getline(help, line);) {
    if (line == "Subcommands:") {
      in_list = true;
    } else if (in_list && line.empty()) {
      break;
    } else if (in_list && line.size() > 2 && line[0] == ' ' && line[2] != ' ') {
      commands.push_back(line.substr(2, line.find(' ', 2) - 2));
    }
  }
  return commands;
}

// One line, introduced as ours, without names of C++ types.
void expect_one_sentence(const ProcessResult& result) {
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  EXPECT_THAT(result.err, MatchesRegex("stemfabric( [a-z-]+)?: error: .+\n"));
  for (const char* raw : {"std::", "terminate", "what()", "yaml-cpp:", "exception", "basic_"}) {
    EXPECT_THAT(result.err, Not(HasSubstr(raw)));
  }
}

struct WrongCase {
  std::vector<std::string> args;
  std::string message;  // part of it
};

TEST(Frame, WrongCommandLinesExitWith2AndOneSentence) {
  const std::vector<WrongCase> cases = {
      {{}, "no command given"},
      {{"dcotor"},
       "unknown command 'dcotor' (`stemfabric --help` lists them); did you mean "
       "'doctor'?"},
      {{"zzzzzz"}, "unknown command 'zzzzzz'"},
      {{"--wrong", "doctor"}, "unknown option '--wrong'"},
      {{"doctor", "--jsno"},
       "unknown option '--jsno' (`stemfabric doctor --help` lists them); did "
       "you mean '--json'?"},
      {{"config", "--confg=x"},
       "unknown option '--confg' (`stemfabric config --help` lists "
       "them); did you mean '--config'?"},
      {{"doctor", "surplus"}, "unexpected argument 'surplus'"},
      {{"doctor", "--log-format", "xml"}, "--log-format: 'xml' is none of text, json"},
      {{"doctor", "--log-format"}, "--log-format"},
      {{"config", "--print", "--schema"}, "--print excludes --schema"},
      {{"doctor", "--bad\nname"}, "unknown option '--bad name'"},
      {{"doctor", std::string("--bad\x1b[31m")}, "--bad\\x1b[31m"},
  };
  for (const auto& wrong : cases) {
    const auto result = run_stemfabric(wrong.args);
    SCOPED_TRACE(result.err);
    EXPECT_EQ(result.status, 2);
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, HasSubstr(wrong.message));
    expect_one_sentence(result);
  }
}

TEST(Frame, EveryCommandHasHelpWithDefaults) {
  const auto commands = listed_commands();
  ASSERT_THAT(commands, testing::IsSupersetOf({"config", "doctor"}));
  for (const auto& command : commands) {
    SCOPED_TRACE(command);
    const auto result = run_stemfabric({command, "--help"});
    EXPECT_EQ(result.status, 0);
    EXPECT_EQ(result.err, "");
    EXPECT_THAT(result.out, HasSubstr("Usage: stemfabric " + command));
    EXPECT_EQ(run_stemfabric({"help", command}).out, result.out);
    // Every option that takes a value is required or has a default.
    std::istringstream lines(result.out);
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with("  --") && line.size() > 5 && line.find(' ', 4) != line.npos &&
          std::isspace(static_cast<unsigned char>(line[line.find(' ', 4) + 1])) == 0) {
        EXPECT_TRUE(line.find("(required)") != line.npos || line.find("(default: ") != line.npos)
            << line;
      }
    }
    const auto wrong = run_stemfabric({command, "--no-such-option"});
    EXPECT_EQ(wrong.status, 2);
    EXPECT_THAT(wrong.err, StartsWith("stemfabric " + command + ": error: "));
    expect_one_sentence(wrong);
  }
  EXPECT_THAT(run_stemfabric({"--help"}).out, HasSubstr("(default: text)"));
}

TEST(Frame, VersionNamesRevisionAndFeatures) {
  const auto result = run_stemfabric({"--version"});
  EXPECT_EQ(result.status, 0);
  EXPECT_THAT(result.out,
              MatchesRegex("stemfabric [0-9.]+ \\(.+; CUDA (yes|no), NCCL (yes|no), MPI "
                           "(yes|no)\\)\n"));
}

TEST(Frame, OptionsMayBeWrittenInCamelCase) {
  const auto kebab = run_stemfabric({"config", "--log-format", "json", "--set", "model.dim=5"});
  const auto camel = run_stemfabric({"config", "--logFormat=json", "--set", "model.dim=5"});
  EXPECT_EQ(kebab.status, 2);
  EXPECT_EQ(camel.status, 2);
  const auto message = [](const ProcessResult& result) {
    return nlohmann::json::parse(result.err).at("message").get<std::string>();
  };
  EXPECT_EQ(message(kebab), message(camel));
  // Values keep their spelling.
  EXPECT_THAT(run_stemfabric({"config", "--set", "data.dataset_dir=--outputDir"}).out,
              HasSubstr("dataset_dir: \"--outputDir\""));
}

TEST(Frame, JsonErrorsAreOneObject) {
  for (const auto& args : std::vector<std::vector<std::string>>{
           {"--log-format", "json", "nothing"}, {"doctor", "--log-format=json", "--x"}}) {
    const auto result = run_stemfabric(args);
    EXPECT_EQ(result.status, 2);
    const auto json = nlohmann::json::parse(result.err);
    EXPECT_EQ(json.at("level"), "error");
    EXPECT_THAT(json.at("message").get<std::string>(), HasSubstr("error: unknown"));
  }
}

TEST(Frame, OutputThatCannotBeWrittenIsAnError) {
  const auto result =
      run_process({"/bin/sh", "-c", std::string(SF_EXECUTABLE) + " config --print > /dev/full"});
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.err, HasSubstr("standard output could not be written"));
}

}  // namespace
}  // namespace stemfabric::test
