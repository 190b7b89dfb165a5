#include "trainer/config/config_io.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/core/check.h"
#include "tests/support/mutations.h"
#include "tests/support/paths.h"
#include "trainer/config/fields.h"

namespace stemfabric {
namespace {

using test::TempDir;
using testing::HasSubstr;

class ConfigIo : public testing::Test {
 protected:
  std::filesystem::path write(const std::string& name, const std::string& text) const {
    const auto path = dir_ / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }
  LoadedConfig load(const std::string& text) const {
    return load_config(write("c.yaml", text), {});
  }

  // The message of the ConfigError that `text` as a file gives, without the folder's name.
  std::string error_of(const std::string& text) const {
    return message([&] { load(text); });
  }
  template <typename Action>
  std::string message(Action&& action) const {
    try {
      action();
    } catch (const ConfigError& error) {
      std::string what = error.what();
      const std::string folder = dir_.path().string() + "/";
      for (std::size_t at = 0; (at = what.find(folder)) != std::string::npos;) {
        what.erase(at, folder.size());
      }
      return what;
    }
    return "no error";
  }

  TempDir dir_;
};

TEST_F(ConfigIo, DefaultsAreValidAndEveryKeyHasAnOrigin) {
  LoadedConfig loaded = load_config({}, {});
  validate_config(loaded);
  const FieldList list = list_fields(loaded.config);
  EXPECT_GT(list.fields.size(), 50U);
  EXPECT_EQ(loaded.origins.size(), list.fields.size());
  for (const Field& field : list.fields) {
    EXPECT_EQ(loaded.origins.at(field.key()), "default");
    EXPECT_FALSE(loaded.is_set(field.key()));
    EXPECT_NE(field.help, "") << field.key();
  }
}

TEST_F(ConfigIo, LayersOverrideOneAnotherAndRememberWhoSetWhat) {
  write("base/root.yaml", "training:\n  lr: 0.1\n  batch_size: 4\n  seed: 1\n");
  write("base/middle.yaml", "extends: root.yaml\ntraining:\n  batch_size: 5\n  seed: 2\n");
  const auto top = write("top.yaml", "extends: base/middle.yaml\ntraining: {seed: 3}\n");
  const LoadedConfig loaded =
      load_config(top, {parse_override("model.dim=64"),
                        {"training.num_epochs", "7", "--epochs"},
                        parse_override("model.attention={alpha: 0.5, beta: 0.25}")});
  const auto& training = loaded.config.training;
  EXPECT_EQ(training.lr, 0.1);
  EXPECT_EQ(training.batch_size, 5);
  EXPECT_EQ(training.seed, 3);
  EXPECT_EQ(training.num_epochs, 7);
  EXPECT_EQ(loaded.config.model.dim, 64);
  EXPECT_EQ(loaded.config.model.attention.alpha, 0.5);
  EXPECT_EQ(loaded.config.model.attention.gamma, 0.4);
  EXPECT_EQ(loaded.origins.at("training.lr"), (dir_ / "base/root.yaml").string() + ":2");
  EXPECT_EQ(loaded.origins.at("training.batch_size"), (dir_ / "base/middle.yaml").string() + ":3");
  EXPECT_EQ(loaded.origins.at("training.seed"), top.string() + ":2");
  EXPECT_EQ(loaded.origins.at("training.num_epochs"), "--epochs");
  EXPECT_EQ(loaded.origins.at("model.attention.beta"), "--set");
  EXPECT_EQ(loaded.origins.at("model.attention.gamma"), "default");
  EXPECT_TRUE(loaded.is_set("model.dim"));
}

TEST_F(ConfigIo, ValuesInTheirSpellings) {
  const Config config = load(
                            "training:\n  lr: 1e-4\n  batch_size: 16.0\n  num_steps: 1e3\n"
                            "  seed: 9007199254740993\n"
                            "loss:\n  stem_weights: !!python/tuple\n  - 1\n  - 2.5\n  - 3\n  - 4\n"
                            "  - 5\n  - +6\n"
                            "data:\n  shuffle: off\n  dataset_dir: 123\n"
                            "logging:\nmodel: &m\n  dim: 64\n")
                            .config;
  EXPECT_EQ(config.training.lr, 1e-4);
  EXPECT_EQ(config.training.batch_size, 16);
  EXPECT_EQ(config.training.num_steps, 1000);
  EXPECT_EQ(config.training.seed, 9007199254740993);  // not through a double
  EXPECT_EQ(config.loss.stem_weights, (std::vector<double>{1, 2.5, 3, 4, 5, 6}));
  EXPECT_FALSE(config.data.shuffle);
  EXPECT_EQ(config.data.dataset_dir, "123");
  EXPECT_EQ(config.model.dim, 64);
}

struct Wrong {
  std::string yaml;
  std::string message;
};

TEST_F(ConfigIo, WrongKeysAndValuesAreNamedWithFileAndLine) {
  const std::vector<Wrong> cases = {
      {"model:\n  dims: 3\n", "c.yaml:2: model.dims: unknown key; did you mean 'model.dim'?"},
      {"model:\n  lr: 3\n", "c.yaml:2: model.lr: unknown key; did you mean 'training.lr'?"},
      {"\nlr: 3\n", "c.yaml:2: lr: unknown key; did you mean 'training.lr'?"},
      {"trainig:\n  lr: 3\n", "c.yaml:1: trainig: unknown key; did you mean 'training'?"},
      {"training.lr: 3\n",
       "c.yaml:1: training.lr: write it nested: `training:` and below it `lr: …`"},
      {"validation:\n  zzzzzz: 3\n",
       "c.yaml:2: validation.zzzzzz: unknown key; known here: every, metrics"},
      {"training:\n  batch_size: 1.5\n",
       "c.yaml:2: training.batch_size: must be a whole number (1 to 1048576), not '1.5'"},
      {"training:\n  batch_size: \"32\"\n",
       "c.yaml:2: training.batch_size: must be a whole number (1 to 1048576), not '32' in quotes"},
      {"training:\n  batch_size: 0\n",
       "c.yaml:2: training.batch_size: 0 is out of range; allowed: 1 to 1048576"},
      {"training:\n  seed: 99999999999999999999\n",
       "c.yaml:2: training.seed: must be a whole number (at least 0), not "
       "'99999999999999999999'"},
      {"training:\n  lr: fast\n",
       "c.yaml:2: training.lr: must be a number (at least 0), not 'fast'"},
      {"training:\n  lr: .inf\n",
       "c.yaml:2: training.lr: must be a number (at least 0), not '.inf'"},
      {"training:\n  lr:\n", "c.yaml:2: training.lr: must be a number (at least 0), not empty"},
      {"training:\n  lr: [1]\n",
       "c.yaml:2: training.lr: must be a number (at least 0), not a list"},
      {"training:\n  optimizer: adma\n",
       "c.yaml:2: training.optimizer: 'adma' is not one of adam, adamw; did you mean 'adam'?"},
      {"data:\n  shuffle: 2\n", "c.yaml:2: data.shuffle: must be true or false, not '2'"},
      {"loss:\n  stem_weights: [1, x]\n",
       "c.yaml:2: loss.stem_weights: entry 2 must be a number, not 'x'"},
      {"loss:\n  stem_weights: [1, -1]\n",
       "c.yaml:2: loss.stem_weights: -1 is out of range; allowed: at least 0"},
      {"training: 5\n", "c.yaml:1: training must hold `key: value` lines, not '5'"},
      {"- 1\n", "c.yaml:1: a configuration must hold `key: value` lines, not a list"},
      {"model:\n  attention:\n    alpha: 1\n    alpha: 2\n",
       "c.yaml:4: model.attention.alpha: given twice (first c.yaml:3)"},
      {"model: {<<: {dim: 1}}\n",
       "c.yaml:1: model.<<: merge keys are not supported; use `extends:` or repeat the values"},
  };
  for (const auto& wrong : cases) {
    EXPECT_EQ(error_of(wrong.yaml), wrong.message);
  }
}

TEST_F(ConfigIo, HostileTextIsRefusedWithWordsOfOurs) {
  std::string bomb = "a: &a0 [x,x,x,x,x,x,x,x,x,x]\n";
  for (int i = 0; i < 12; ++i) {
    bomb +=
        fmt::format("b{0}: &a{1} [*a{0},*a{0},*a{0},*a{0},*a{0},*a{0},*a{0},*a{0}]\n", i, i + 1);
  }
  const std::vector<Wrong> cases = {
      {"", "c.yaml is empty"},
      {std::string("a: \0", 4), "c.yaml:1: control character 0x00 at offset 3"},
      {"# ok\n\xff\xfe", "c.yaml:2: byte 0xff at offset 5 is not UTF-8"},
      {"a: \xe2\x82", "c.yaml:1: byte 0xe2 at offset 3 is not UTF-8"},
      {"model:\n\tdim: 3\n", "c.yaml:2: a tab in the indentation"},
      {"model:\n  dim: 3\n---\nmodel:\n", "c.yaml:3: a second YAML document"},
      {"a: [1, 2\n", "not valid YAML: "},
      {"data:\n  dataset_dir: \"cut of", "not valid YAML: a quoted text is not closed"},
      {"data:\n  dataset_dir: 'cut off\n", "not valid YAML: a quoted text is not closed"},
      {"a: *nothing\n", "c.yaml:1: not valid YAML: "},
      {"a: &a [*a]\n", "c.yaml:1: an alias inside the very value that it names"},
      {bomb, "more than 20000 values"},
      {std::string(50000, '['), "c.yaml:1: nested deeper than 32 levels"},
      {"a: " + std::string(3 << 20, 'x'), "at most 1048576"},
      {"? [1]\n: 2\n", "c.yaml:1: a key must be a word"},
      {"a: !!python/object/apply:os.system [x]\n",
       "c.yaml:1: the tag 'tag:yaml.org,2002:python/object/apply:os.system' is not allowed here"},
  };
  for (const auto& wrong : cases) {
    SCOPED_TRACE(wrong.yaml.substr(0, 60));
    EXPECT_THAT(error_of(wrong.yaml), HasSubstr(wrong.message));
    EXPECT_THAT(error_of(wrong.yaml), HasSubstr("c.yaml"));
  }
}

TEST_F(ConfigIo, NoPrefixOfAFileIsAnyOtherErrorThanAConfigError) {
  const std::string text = config_to_yaml(load_config({}, {}), true);
  for (std::size_t size = 1; size < text.size(); size += 61) {
    message([&] { load(text.substr(0, size)); });  // anything but a ConfigError fails the test
  }
  for (std::size_t at = 0; at < text.size(); at += 43) {
    for (const char c : {'\0', '{', '"', '&', '*', '-', ':', '\n', '\x80', '!'}) {
      std::string changed = text;
      changed[at] = c;
      message([&] { load(changed); });
    }
  }
}

TEST_F(ConfigIo, ExtendsFollowsFilesButNoCircles) {
  write("a.yaml", "extends: b.yaml\n");
  write("b.yaml", "model:\n  dim: 8\nextends: ./a.yaml\n");
  EXPECT_EQ(message([&] { load_config(dir_ / "a.yaml", {}); }),
            "b.yaml:3: extends: a.yaml extends itself in a circle");
  EXPECT_EQ(error_of("extends: absent.yaml\n"),
            "c.yaml:1: extends: there is no configuration file absent.yaml");
  EXPECT_EQ(error_of("extends: [a.yaml]\n"),
            "c.yaml:1: extends: must be the path of one other configuration file");
  for (int i = 0; i < 30; ++i) {
    write(fmt::format("chain{}.yaml", i), fmt::format("extends: chain{}.yaml\n", i + 1));
  }
  EXPECT_THAT(message([&] { load_config(dir_ / "chain0.yaml", {}); }),
              HasSubstr("more than 16 files extend one another"));
}

TEST_F(ConfigIo, WrongOverridesAreNamed) {
  const auto error = [&](const std::string& text) {
    return message([&] { load_config({}, {parse_override(text)}); });
  };
  EXPECT_EQ(error("training.lr"), "--set: 'training.lr' is not of the form section.key=value");
  EXPECT_EQ(error("=3"), "--set: '=3' is not of the form section.key=value");
  EXPECT_EQ(error("training.=3"), "--set: 'training.' is no key; write section.key=value");
  EXPECT_EQ(error("training.lrr=3"),
            "--set: training.lrr: unknown key; did you mean 'training.lr'?");
  EXPECT_THAT(error("training.lr=["), HasSubstr("(the value of training.lr)"));
  EXPECT_EQ(message([&] {
              load_config({}, {{"training.num_epochs", "x", "--epochs"}});
            }),
            "--epochs: training.num_epochs: must be a whole number (at least 0), not 'x'");
}

// A configuration that differs from the defaults in every key.
Config unusual() {
  Config config;
  double number = 0.125;
  for (const Field& field : list_fields(config).fields) {
    if (auto* const* flag = std::get_if<bool*>(&field.value)) {
      **flag = !**flag;
    } else if (auto* const* integer = std::get_if<int64_t*>(&field.value)) {
      const Constraint& allowed = field.constraint;
      const auto value = static_cast<double>(**integer);
      **integer += value < allowed.max ? 1 : value > allowed.min ? -1 : 0;
    } else if (auto* const* real = std::get_if<double*>(&field.value)) {
      **real = std::max(field.constraint.min, 1e-17) + (number *= 0.9) / 3;
    } else if (auto* const* text = std::get_if<std::string*>(&field.value)) {
      **text = field.constraint.choices.empty() ? "a \"b\" \\ : # é\n\x01 {yes"
                                                : field.constraint.choices.back();
    } else {
      std::get<std::vector<double>*>(field.value)->assign({1.0 / 3, 2e-300, 3, 4, 5, 1e22});
    }
  }
  return config;
}

void expect_equal(Config a, Config b) {
  const FieldList list_a = list_fields(a);
  const FieldList list_b = list_fields(b);
  for (std::size_t i = 0; i < list_a.fields.size(); ++i) {
    std::visit(
        [&](auto* value) {
          EXPECT_EQ(*value, *std::get<decltype(value)>(list_b.fields[i].value))
              << list_a.fields[i].key();
        },
        list_a.fields[i].value);
  }
}

TEST_F(ConfigIo, PrintingAndReadingGivesTheSameValues) {
  LoadedConfig loaded = load_config({}, {});
  loaded.config = unusual();
  loaded.config.data.dataset_dir = "a \"b\" \\ : # é\n {yes";  // YAML has no \x01
  loaded.config.training.init_from = "Yes";
  for (const bool with_origins : {false, true}) {
    expect_equal(load(config_to_yaml(loaded, with_origins)).config, loaded.config);
  }
  expect_equal(config_from_json(config_to_json(unusual()), "state.json"), unusual());
  expect_equal(load(config_to_json(Config())).config, Config());  // JSON is YAML
}

TEST_F(ConfigIo, ModelConfigOfAWeightsFile) {
  const auto json = nlohmann::json::parse(model_config_to_json(ModelConfig()));
  for (const char* key : {"input_dim", "dim", "depth", "heads", "dim_ff", "output_dim",
                          "max_sequence_length", "norm_epsilon", "attn_dropout", "ff_dropout"}) {
    EXPECT_TRUE(json.contains(key)) << key;
  }
  for (const char* key : {"activation", "alpha", "beta", "gamma"}) {
    EXPECT_TRUE(json.at("attention").contains(key)) << key;
  }
  const ModelConfig model = model_config_from_json(
      R"({"dim": 16, "norm_epsilon": 1e-05, "new": {"x": [1]}, "attention": {"activation": "softmax", "y": 1}})",
      "w.safetensors");
  EXPECT_EQ(model.dim, 16);
  EXPECT_EQ(model.attention.activation, "softmax");
  EXPECT_EQ(model.depth, ModelConfig().depth);
  EXPECT_FALSE(model.audio);

  ModelConfig masks;
  masks.mask = "complex";
  masks.audio = AudioConfig{.sample_rate = 22050, .n_fft = 1024, .hop_length = 256};
  const ModelConfig again = model_config_from_json(model_config_to_json(masks), "w.safetensors");
  EXPECT_EQ(again.mask, "complex");
  ASSERT_TRUE(again.audio);
  EXPECT_EQ(again.audio->sample_rate, 22050);
  EXPECT_EQ(again.audio->n_fft, 1024);
  EXPECT_EQ(again.audio->chunk_size, AudioConfig().chunk_size);

  const auto error = [](const std::string& text) -> std::string {
    try {
      model_config_from_json(text, "w.safetensors");
    } catch (const InputError& caught) {
      return caught.what();
    }
    return "no error";
  };
  EXPECT_EQ(error("{\"dim\": "), "w.safetensors: not valid JSON at byte 9");
  EXPECT_EQ(error("[]"), "w.safetensors: the configuration must be a JSON object");
  EXPECT_THAT(error("{\"dim\": -1}"), HasSubstr("w.safetensors: dim: -1 is out of range"));
  EXPECT_THAT(error("{\"audio\": {\"n_fft\": 1}}"), HasSubstr("n_fft: 1 is out of range"));
  EXPECT_THAT(error("{\"dim\": \"16\"}"), HasSubstr("must be a whole number"));
  EXPECT_THAT(error(std::string(100000, '[')), HasSubstr("w.safetensors"));
  EXPECT_THAT(error("{\"x\": " + std::string(40, '[') + std::string(40, ']') + "}"),
              HasSubstr("nested deeper"));
  EXPECT_THROW(config_from_json("{\"nothing\": 1}", "state.json"), InputError);
}

TEST_F(ConfigIo, SchemaDescribesEveryKey) {
  const auto schema = nlohmann::json::parse(config_json_schema());
  Config config;
  const FieldList list = list_fields(config);
  const auto defaults = nlohmann::json::parse(config_to_json(config));
  for (const Field& field : list.fields) {
    auto node = schema;
    auto value = defaults;
    std::istringstream parts(field.key());
    for (std::string part; std::getline(parts, part, '.');) {
      EXPECT_EQ(node.at("additionalProperties"), false);
      node = nlohmann::json(node.at("properties").at(part));
      value = nlohmann::json(value.at(part));
    }
    EXPECT_EQ(node.at("default"), value) << field.key();
    EXPECT_EQ(node.at("description"), field.help);
    EXPECT_EQ(node.contains("enum"), !field.constraint.choices.empty());
  }
  EXPECT_EQ(schema["properties"]["training"]["properties"]["batch_size"]["minimum"], 1);
}

TEST_F(ConfigIo, RulesBetweenFieldsNameKeysAndOrigins) {
  const auto error = [&](const std::vector<std::string>& sets) {
    std::vector<ConfigOverride> overrides;
    for (const auto& set : sets) {
      overrides.push_back(parse_override(set));
    }
    return message([&] { validate_config(load_config({}, overrides)); });
  };
  EXPECT_EQ(error({"model.heads=7"}),
            "model.heads = 7 (--set) must divide model.dim = 256 (default)");
  EXPECT_THAT(error({"model.heads=1"}), HasSubstr("heads of size 256; at most 128"));
  EXPECT_EQ(error({"model.heads=2"}), "no error");
  EXPECT_THAT(error({"model.dim=24", "model.positions=rotary"}), HasSubstr("even size"));
  EXPECT_EQ(error({"model.dim=24"}), "no error");
  EXPECT_THAT(
      error({"model.attention.activation=superposition_normalized", "model.attention.alpha=-1"}),
      HasSubstr("must not be negative nor all zero"));
  EXPECT_EQ(error({"model.attention.alpha=-1"}), "no error");
  EXPECT_THAT(error({"loss.stem_weights=[1,1]"}),
              HasSubstr("needs 6 entries: vocals drums bass harmonic perc sub"));
  EXPECT_THAT(error({"loss.stem_weights=[0,0,0,0,0,0]"}), HasSubstr("nothing to learn"));
  EXPECT_THAT(error({"data.train_ratio=0"}), HasSubstr("nothing to train on"));
  EXPECT_EQ(error({"training.precision=bf16"}), "no error");
  EXPECT_THAT(error({"training.min_lr=0.1"}), HasSubstr("must not be above training.lr = 0.001"));
  EXPECT_EQ(error({"training.min_lr=0.1", "training.schedule=constant"}), "no error");
  EXPECT_THAT(error({"training.reduce_factor=1"}), HasSubstr("between 0 and 1"));
  EXPECT_THAT(error({"training.num_epochs=0"}), HasSubstr("nothing to do"));
  EXPECT_EQ(error({"training.num_epochs=0", "training.num_steps=5"}), "no error");
}

TEST(LoadConfig, DamagedFilesAreReadOrRefused) {
  const test::TempDir dir;
  const std::string file =
      "# a comment\nmodel: {dim: 64, heads: 4, depth: 2}\ntraining:\n  lr: 3.0e-4\n"
      "  batch_size: 8\n  num_steps: 100\ndata:\n  shuffle: false\n  dataset_dir: \"a\\tb\"\n"
      "loss:\n  stem_weights: [1, 1, 0.5, 1, 1, 1]\n";
  const auto counts = test::read_mutated(dir / "damaged.yaml", file,
                                         {.seed = 14, .rounds = 800, .kind = ErrorKind::kConfig},
                                         [&] { load_config(dir / "damaged.yaml", {}); });
  EXPECT_GT(counts.refused, 250);
}

}  // namespace
}  // namespace stemfabric
