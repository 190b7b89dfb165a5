#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/io/file.h"
#include "tests/integration/stemfabric.h"
#include "trainer/config/config_io.h"
#include "trainer/config/fields.h"

namespace stemfabric::test {
namespace {

using testing::HasSubstr;

void write(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

TEST(ConfigCommand, PrintsEveryValueWithItsOrigin) {
  const TempDir dir;
  write(dir / "mine.yaml", "training:\n  lr: 2.0e-4\n");
  const auto result = run_stemfabric(
      {"config", "--print", "--config", "mine.yaml", "--set", "model.heads=4"}, dir.path());
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, testing::ContainsRegex("  lr: 0.0002 +# mine.yaml:2\n"));
  EXPECT_THAT(result.out, testing::ContainsRegex("  heads: 4 +# --set\n"));
  EXPECT_THAT(result.out, testing::ContainsRegex("  dim: 256 +# default\n"));

  // What it prints is a configuration file with the same values.
  write(dir / "printed.yaml", result.out);
  const auto again = run_stemfabric({"config", "--config", "printed.yaml"}, dir.path());
  EXPECT_EQ(again.status, 0) << again.err;
  const auto values = [](const std::string& yaml) {
    std::string kept;
    std::istringstream lines(yaml);
    for (std::string line; std::getline(lines, line);) {
      line.resize(std::min(line.find('#'), line.size()));
      kept += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
    }
    return kept;
  };
  EXPECT_EQ(values(again.out), values(result.out));
}

TEST(ConfigCommand, ValidatesEveryShippedFile) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(source_dir() / "configs")) {
    const auto result = run_stemfabric({"config", "--validate", "--config", entry.path().string()});
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(result.out, entry.path().string() + ": valid\n");
    ++files;
  }
  EXPECT_GE(files, 3);
}

TEST(ConfigCommand, TheBaseFileShowsEveryKeyWithItsDefault) {
  const std::string text = read_text_file(source_dir() / "configs" / "snapshot_base.yaml");
  std::string all;  // with the `#key: value` lines, too
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t hash = line.find_first_not_of(' ');
    if (hash != std::string::npos && line[hash] == '#' && std::islower(line[hash + 1]) != 0) {
      line.erase(hash, 1);
    }
    all += line + "\n";
  }
  const TempDir dir;
  write(dir / "all.yaml", all);
  LoadedConfig loaded = load_config(dir / "all.yaml", {});
  Config defaults;
  const FieldList have = list_fields(loaded.config);
  const FieldList want = list_fields(defaults);
  for (std::size_t i = 0; i < want.fields.size(); ++i) {
    EXPECT_TRUE(loaded.is_set(want.fields[i].key())) << want.fields[i].key();
    EXPECT_EQ(value_to_yaml(have.fields[i]), value_to_yaml(want.fields[i])) << want.fields[i].key();
  }
}

TEST(ConfigCommand, WrongFilesExitWith2AndNameFileLineAndKey) {
  const TempDir dir;
  write(dir / "c.yaml", "training:\n  bacth_size: 3\n");
  const auto result = run_stemfabric({"config", "--validate", "--config", "c.yaml"}, dir.path());
  EXPECT_EQ(result.status, 2);
  EXPECT_EQ(result.err,
            "stemfabric config: error: c.yaml:2: training.bacth_size: unknown key; did you mean "
            "'training.batch_size'?\n");
  EXPECT_EQ(run_stemfabric({"config", "--config", "absent.yaml"}, dir.path()).status, 2);
  EXPECT_EQ(run_stemfabric({"config", "--config", dir.path().string()}).status, 2);
  EXPECT_EQ(run_stemfabric({"config", "--set", "model.heads=7"}).status, 2);
}

TEST(ConfigCommand, PrintsAJsonSchema) {
  const auto result = run_stemfabric({"config", "--schema"});
  EXPECT_EQ(result.status, 0);
  const auto schema = nlohmann::json::parse(result.out);
  EXPECT_EQ(schema.at("$schema"), "https://json-schema.org/draft/2020-12/schema");
  EXPECT_EQ(schema.at("additionalProperties"), false);
}

}  // namespace
}  // namespace stemfabric::test
