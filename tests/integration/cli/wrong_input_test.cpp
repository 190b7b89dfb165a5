// Every command with wrong input: one clear sentence of ours, the documented exit status, and never
// the text of a library's exception.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <sstream>

#include "runtime/io/file.h"
#include "tests/integration/stemfabric.h"

namespace stemfabric::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

constexpr int kUsage = 2;
constexpr int kInput = 3;
constexpr int kOther = 1;

struct WrongInput {
  std::vector<std::string> args;
  int status;
  std::string message;  // part of it
};

// A data set, a trained run and a set of files that are none of what the commands want.
class WrongInputTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TempDir;
    const TempDir& dir = *folder_;
    put_file(dir / "tiny.yaml",
             "model: {dim: 16, heads: 2, depth: 1, dim_ff: 16, max_sequence_length: 64}\n"
             "training: {num_steps: 1, batch_size: 2}\n"
             "logging: {tensorboard: false}\n");
    put_file(dir / "empty", "");
    put_file(dir / "text", "hello\n");
    put_file(dir / "half", "{\"a\":");
    std::string noise;
    uint32_t state = 12345;
    for (int i = 0; i < 3000; ++i) {
      state = state * 1664525 + 1013904223;
      noise += static_cast<char>(state >> 24);
    }
    put_file(dir / "noise", noise);
    put_file(dir / "open_map.yaml", "model:\n  {dim: 16\n");
    put_file(dir / "indent.yaml", "model:\n dim: 16\n  heads: 2\n");
    put_file(dir / "typo.yaml", "model:\n  hedas: 2\n");
    put_file(dir / "escape.yaml", "model:\n  dim: \"\\z\"\n");
    put_file(dir / "alias.yaml", "model: *missing\n");
    fs::create_directory(dir / "folder");
    put_file(dir / "folder/one", "1");
    ok({"sanitize", "--input", (data_dir() / "snapshots").string(), "--output", "records.jsonl"});
    ok({"dataset", "--input", "records.jsonl", "--output-dir", ".", "--run-label", "data"});
    ok({"train", "--config", "tiny.yaml", "--dataset-dir", "data", "--output-dir", "run"});
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }

  static void ok(const std::vector<std::string>& args) {
    const auto result = run_stemfabric(args, folder_->path());
    ASSERT_EQ(result.status, 0) << result.err;
  }

  static void expect_no_library_text(const std::string& text) {
    for (const char* raw :
         {"what():", "[json.exception", "yaml-cpp", "bad conversion", "std::", "terminate called",
          "not in range", "At Most", "required but received", "Could not convert", "HDF5-DIAG",
          "filesystem error", "basic_", "illegal", "internal error", "report this as a bug"}) {
      EXPECT_THAT(text, Not(HasSubstr(raw)));
    }
  }

  static void check(const std::vector<WrongInput>& cases) {
    for (const WrongInput& wrong : cases) {
      const auto result = run_stemfabric(wrong.args, folder_->path());
      std::string line;
      for (const auto& arg : wrong.args) {
        line += arg + " ";
      }
      SCOPED_TRACE(line + "\n" + result.err);
      EXPECT_EQ(result.status, wrong.status);
      EXPECT_THAT(result.err, HasSubstr(wrong.message));
      // One sentence at the end; before it at most warnings.
      std::istringstream lines(result.err);
      std::string last;
      for (std::string text; std::getline(lines, text); last = text) {
        EXPECT_TRUE(last.empty() || last.find(" warning ") != last.npos) << last;
      }
      EXPECT_THAT(last, testing::StartsWith("stemfabric " + wrong.args[0] + ": error: "));
      expect_no_library_text(result.err + result.out);
    }
  }

  static TempDir* folder_;
};

TempDir* WrongInputTest::folder_ = nullptr;

TEST_F(WrongInputTest, ValuesOfOptions) {
  const auto dataset = [](const std::string& option, const std::string& value) {
    return std::vector<std::string>{"dataset",     "--input", "records.jsonl", "--output-dir", ".",
                                    "--run-label", "other",   option,          value};
  };
  check({
      {dataset("--train-ratio", "abc"), kUsage, "--train-ratio: 'abc' is no number from 0 to 1"},
      {dataset("--train-ratio", "nan"), kUsage, "--train-ratio: 'nan' is no number from 0 to 1"},
      {dataset("--train-ratio", "-0.5"), kUsage, "--train-ratio: '-0.5' is no number from 0 to 1"},
      {dataset("--train-ratio", ""), kUsage, "--train-ratio: '' is no number from 0 to 1"},
      {dataset("--seed", "-1"), kUsage, "--seed: '-1' is no whole number of at least 0"},
      {dataset("--seed", "99999999999999999999999"), kUsage, "at most 9223372036854775807"},
      {dataset("--seed", "1e3"), kUsage, "--seed: '1e3' is no whole number"},
      {dataset("--time-bins", "0"), kUsage, "--time-bins: '0' is no whole number from 1 to 4096"},
      {dataset("--time-bins", "0x10"), kUsage, "--time-bins: '0x10' is no whole number"},
      {dataset("--packed-width", "1.5"), kUsage, "--packed-width: '1.5' is no whole number"},
      {dataset("--correction-weight", "-1"), kUsage, "is no finite number of at least 0"},
      {dataset("--correction-weight", "1e400"), kUsage, "is no finite number of at least 0"},
      {dataset("--shard-records", "0"), kUsage, "is no whole number from 1 to 1000000"},
      {dataset("--threads", std::string(500, '9')), kUsage, "is no whole number from 0 to 1024"},
      {{"dataset", "--input", "records.jsonl", "--output-dir", ".", "--run-label", "d\xff"},
       kUsage,
       "the run label must be text in UTF-8 without control characters"},
      {{"dataset", "--input", "records.jsonl", "--output-dir", ".", "--run-label", "d\n"},
       kUsage,
       "the run label must be text in UTF-8 without control characters"},
      {{"run", "--snapshot-dir", "folder", "--output-dir", "r", "--run-label", "d\xff"},
       kUsage,
       "is no plain name"},
      {dataset("--layout", "time_gird"), kUsage, "did you mean 'time_grid'?"},
      {dataset("--targets", "x"), kUsage, "--targets: 'x' is none of samples, bands"},
      {{"sanitize", "--input", "text", "--output", "o", "--threads", "many"}, kUsage, "--threads"},
      {{"demo-songs", "--output-dir", "d"}, kUsage, "--count"},
      {{"demo-songs", "--count", "0", "--output-dir", "d"}, kUsage, "--count"},
      {{"demo-songs", "--count", "1", "--output-dir", "d", "--patches", "tset"},
       kUsage,
       "--patches"},
      {{"features", "--output", "o.json"}, kUsage, "input"},
      {{"features", "text", "--output", "o.json"}, kInput, "text"},
      {{"features", "missing.wav", "--output", "o.json"}, kInput, "missing.wav is not there"},
      {{"features", "folder", "--output", "o.json"}, kUsage, "one file *.jsonl"},
      {{"bench"}, kUsage, "--plan"},
      {{"bench", "--plan", "--tokens", "0"}, kUsage, "--tokens"},
      {{"bench", "--plan", "--tflops", "fast"}, kUsage, "--tflops"},
      {{"bench", "--plan", "--tflops", "3"}, kUsage, "--gb-per-s"},
      {{"bench", "--plan", "--set", "model.max_sequence_length=8"}, kUsage, "--tokens 512"},
      {{"train", "--dataset-dir", "data", "--epochs", "many"}, kUsage, "--epochs"},
      {{"train", "--dataset-dir", "data", "--learning-rate", "-1"}, kUsage, "--learning-rate"},
      {{"train", "--dataset-dir", "data", "--batch-size", "1e99"}, kUsage, "--batch-size"},
      {{"predict", "--model", "run", "--input", "x", "--output-dir", "p", "--batch-size", "0"},
       kUsage,
       "--batch-size"},
      {{"evaluate", "--dataset-dir", "data", "--output-dir", "e", "--split", "tset"},
       kUsage,
       "tset"},
      {{"run", "--snapshot-dir", "folder", "--output-dir", "r", "--run-label", "a/b"},
       kUsage,
       "'a/b'"},
      {{"run", "--snapshot-dir", "folder", "--output-dir", "r", "--run-label", "a", "--train-ratio",
        "2"},
       kUsage,
       "--train-ratio"},
  });
}

TEST_F(WrongInputTest, CommandLines) {
  check({
      {{"sanitize", "--input"}, kUsage, "--input needs a value behind it: PATH"},
      {{"sanitize", "--input", "--output", "x"},
       kUsage,
       "--input needs a value behind it, not the"},
      {{"sanitize", "--input", "a", "--input", "b", "--output", "x"}, kUsage, "--input is given 2"},
      {{"sanitize", "--input", "a", "b", "--output", "x"}, kUsage, "unexpected argument 'b'"},
      {{"sanitize", "--input=", "--output", "x"}, kUsage, "--input needs a value"},
      {{"sanitize", "--input", "", "--output", "x"}, kUsage, "--input has an empty value"},
      {{"dataset", "--inptu", "x"}, kUsage, "did you mean '--input'?"},
      {{"dataset", "surplus"}, kUsage, "unexpected argument 'surplus'"},
      {{"dataset"}, kUsage, "--output-dir is required"},
      {{"train", "--config", "a", "--config", "b"}, kUsage, "--config is given 2 times"},
      {{"train", "--dry-run=3"}, kUsage, "--dry-run is a switch and takes no value"},
      {{"config", "--quiet=maybe"}, kUsage, "--quiet is a switch and takes no value"},
      {{"config", "--config", ""}, kUsage, "--config has an empty value"},
      {{"config", "--log-format"}, kUsage, "--log-format needs a value behind it: {text,json}"},
      {{"predict", "--model", "a", "--modle", "b"}, kUsage, "did you mean '--model'?"},
      {{"evaluate"}, kUsage, "is required"},
      {{"run", "--run-label"}, kUsage, "--run-label needs a value behind it: NAME"},
  });
}

TEST_F(WrongInputTest, SetAndConfigurationFiles) {
  const auto set = [](const std::string& text) {
    return std::vector<std::string>{"config", "--set", text};
  };
  const auto file = [](const std::string& name) {
    return std::vector<std::string>{"config", "--validate", "--config", name};
  };
  check({
      {{"config", "--set"}, kUsage, "--set needs a value behind it: KEY=VALUE"},
      {set("model.dim"), kUsage, "not of the form section.key=value"},
      {set("=3"), kUsage, "not of the form section.key=value"},
      {set("model..dim=3"), kUsage, "'model..dim' is no key"},
      {set("model.dmi=3"), kUsage, "did you mean 'model.dim'?"},
      {set("model=3"), kUsage, "model must hold `key: value` lines"},
      {set("model.dim=[1"), kUsage, "a `[` is not closed by `]`"},
      {set("model.dim={"), kUsage, "a `{` is not closed by `}`"},
      {set("model.dim=}"), kUsage, "a `}` or `]` without its beginning"},
      {set("model.dim=\"a"), kUsage, "a quoted text is not closed"},
      {set("model.dim=\"\\q\""), kUsage, "sequence in a quoted text that YAML does not know"},
      {set("model.dim=a: b: c"), kUsage, "a `:` where none can be"},
      {set("model.dim=*x"), kUsage, "a `*name` without a `&name` before it"},
      {set("model.dim=@"), kUsage, "character that YAML reserves"},
      {set("model.dim=!!x 1"), kUsage, "tag"},
      {set("model.dim=99999999999999999999"), kUsage, "model.dim: must be a whole number"},
      {set("model.dim=-5"), kUsage, "model.dim: -5 is out of range; allowed: 1 to 16384"},
      {set("training.lr=fast"), kUsage, "training.lr: must be a number"},
      {file("absent"), kUsage, "there is no configuration file absent"},
      {file("folder"), kUsage, "folder is a folder, not a configuration file"},
      {file("empty"), kUsage, "empty is empty"},
      {file("noise"), kUsage, "noise:1: "},
      {file("text"), kUsage, "text:1: a configuration must hold `key: value` lines"},
      {file("half"), kUsage, "half:1: not valid YAML: a `{` is not closed"},
      {file("open_map.yaml"), kUsage, "open_map.yaml:2: not valid YAML: a `{` is not closed"},
      {file("indent.yaml"), kUsage, "indent.yaml:3: not valid YAML: "},
      {file("typo.yaml"), kUsage, "typo.yaml:2: model.hedas: unknown key; did you mean"},
      {file("escape.yaml"), kUsage, "escape.yaml:2: not valid YAML: "},
      {file("alias.yaml"), kUsage, "alias.yaml:1: not valid YAML: "},
  });
}

TEST_F(WrongInputTest, FilesThatAreNotWhatIsWanted) {
  std::vector<WrongInput> cases;
  for (const std::string name : {"absent", "folder", "empty", "text", "half", "noise"}) {
    cases.push_back(
        {{"sanitize", "--input", name, "--output", "o.jsonl", "--quiet"}, kInput, name});
    cases.push_back(
        {{"dataset", "--input", name, "--output-dir", ".", "--run-label", "d"}, kInput, name});
    cases.push_back({{"train", "--config", "tiny.yaml", "--dataset-dir", name, "--output-dir", "t"},
                     kInput,
                     name});
    cases.push_back({{"train", "--config", "tiny.yaml", "--dataset-dir", "data", "--output-dir",
                      "t", "--quiet", "--set", "training.init_from=" + name},
                     kInput,
                     name});
    cases.push_back({{"train", "--config", "tiny.yaml", "--dataset-dir", "data", "--output-dir",
                      "t", "--quiet", "--resume", name},
                     kInput,
                     name});
    cases.push_back({{"evaluate", "--dataset-dir", name, "--output-dir", "e"}, kInput, name});
    cases.push_back({{"evaluate", "--dataset-dir", "data", "--model", name, "--output-dir", "e"},
                     kInput,
                     name});
    cases.push_back(
        {{"predict", "--model", name, "--input", "x.npy", "--output-dir", "p"}, kInput, name});
    cases.push_back(
        {{"predict", "--model", "run", "--input", name, "--output-dir", "p"}, kInput, name});
  }
  check(cases);
}

TEST_F(WrongInputTest, PlacesThatCannotBeWritten) {
  const std::string snapshots = (data_dir() / "snapshots").string();
  check({
      {{"sanitize", "--input", snapshots, "--output", "text/o.jsonl"}, kOther, "text"},
      {{"sanitize", "--input", snapshots, "--output", "folder"}, kOther, "cannot write folder"},
      {{"dataset", "--input", "records.jsonl", "--output-dir", "text", "--run-label", "d"},
       kOther,
       "text"},
      {{"train", "--config", "tiny.yaml", "--dataset-dir", "data", "--output-dir", "text"},
       kOther,
       "text"},
      {{"evaluate", "--dataset-dir", "data", "--output-dir", "text"}, kOther, "text"},
      {{"run", "--snapshot-dir", snapshots, "--output-dir", "text", "--run-label", "x"},
       kOther,
       "text"},
  });
}

// What a refused snapshot is told is ours, too.
TEST_F(WrongInputTest, ReasonsOfRefusedSnapshots) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "there is nothing in it"},     {"{\"a\":", "truncated?"},
      {"{\"a\": \"b", "is not closed"},   {"hello", "not valid JSON"},
      {"{\"a\": \"\xff\"}", "not UTF-8"}, {"{\"a\": \"\n\"}", "control character"},
      {"{\"a\": 1,}", "not valid JSON"},
  };
  for (const auto& [text, reason] : cases) {
    put_file(*folder_ / "wrong.json", text);
    const auto result = run_stemfabric(
        {"sanitize", "--input", "wrong.json", "--output", "o.jsonl", "--report", "report.json"},
        folder_->path());
    SCOPED_TRACE(text + "\n" + result.err);
    EXPECT_EQ(result.status, kInput);
    const std::string report = read_text_file(*folder_ / "report.json");
    EXPECT_THAT(report, HasSubstr(reason));
    expect_no_library_text(report + result.err + result.out);
  }
}

}  // namespace
}  // namespace stemfabric::test
