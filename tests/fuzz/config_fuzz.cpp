#include "runtime/io/file.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/support/paths.h"
#include "trainer/config/config_io.h"

namespace stemfabric::fuzz {
namespace {

namespace fs = std::filesystem;

// Printed in either form and read again, the configuration is the same.
void require_round_trip(const LoadedConfig& loaded) {
  const std::string yaml = config_to_yaml(loaded, false);
  const fs::path copy = scratch_folder() / "copy.yaml";
  test::put_file(copy, yaml);
  SF_CHECK(config_to_yaml(load_config(copy, {}), false) == yaml, "{}", yaml);
  const std::string json = config_to_json(loaded.config);
  SF_CHECK(config_to_json(config_from_json(json, "the configuration written again")) == json, "{}",
           json);
}

void read_yaml(std::string_view bytes) {
  const LoadedConfig loaded = load_config(hostile_file(".yaml", bytes), {});
  require_round_trip(loaded);
  validate_config(loaded);
}

// As the entry of a weights file, which may hold keys of other versions, then as a whole
// configuration.
void read_json(std::string_view bytes) {
  const std::string source(kSource);
  const ModelConfig model = model_config_from_json(std::string(bytes), source);
  const std::string text = model_config_to_json(model);
  SF_CHECK(model_config_to_json(model_config_from_json(text, "the model written again")) == text,
           "{}", text);
  require_round_trip({config_from_json(std::string(bytes), source), {}});
}

std::vector<std::string> yaml_seeds() {
  std::vector<std::string> all = {
      config_to_yaml(load_config({}, {}), false),
      "# a comment\nmodel: {dim: 64, heads: 4, depth: 2}\ntraining:\n  lr: 3.0e-4\n"
      "  batch_size: 8\n  num_steps: 100\ndata:\n  shuffle: false\n  dataset_dir: \"a\\tb\"\n"
      "loss:\n  stem_weights: [1, 1, 0.5, 1, 1, 1]\n",
      "a: &x {b: [1, 2]}\nc: *x\n",
      "model:\n  dim: !!int 64\n  attention: {beta: 1e-3}\ndata: {dataset_dir: |\n    text\n}\n",
      "extends: hostile.yaml\n",
      "extends: missing.yaml\ntraining: {lr: ~}\n"};
  return all;
}

std::vector<std::string> json_seeds() {
  const Config defaults;
  return {config_to_json(defaults), model_config_to_json(defaults.model),
          R"({"model":{"dim":64,"attention":{"beta":0.25}},"training":{"lr":1e-3}})", "{}"};
}

}  // namespace

const FuzzTarget kConfigYaml = {"config_yaml", ErrorKind::kConfig, read_yaml, yaml_seeds};
const FuzzTarget kConfigJson = {"config_json", ErrorKind::kInputData, read_json, json_seeds};

}  // namespace stemfabric::fuzz
