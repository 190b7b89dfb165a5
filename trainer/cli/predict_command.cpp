// stemfabric predict: the model's estimates for an array of feature vectors.
#include <memory>
#include <string>

#include "trainer/cli/command.h"
#include "trainer/cli/config_options.h"
#include "trainer/cli/inference_context.h"
#include "trainer/evaluation/predict.h"

namespace stemfabric::cli {
namespace {

struct Options {
  ConfigOptions config;
  std::string model;
  std::string input;
  std::string mask;
  std::string output_dir;
  std::string batch_size;
  std::string device;
};

int run_predict(const Options& options) {
  std::vector<ConfigOverride> overrides;
  if (!options.batch_size.empty()) {
    overrides.push_back({"inference.batch_size", options.batch_size, "--batch-size"});
  }
  if (!options.device.empty()) {
    overrides.push_back({"inference.device", options.device, "--device"});
  }
  const Config config = options.config.load(overrides).config;
  predict(inference_context(config), {.model = options.model,
                                      .input = options.input,
                                      .mask = options.mask,
                                      .output_dir = options.output_dir,
                                      .batch_size = config.inference.batch_size});
  return 0;
}

}  // namespace

void add_predict_command(CLI::App& app, Run& run) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("predict", "Run a trained model on an array of feature vectors");
  command
      ->add_option("--model", options->model, "Weights (.safetensors) or folder of a training run")
      ->type_name("PATH")
      ->required();
  command
      ->add_option("--input", options->input,
                   "Feature vectors: [samples, tokens, features], float16, 32 or 64")
      ->type_name("FILE.npy")
      ->required();
  command
      ->add_option("--mask", options->mask,
                   "Which tokens are present: [samples, tokens], bool or integer")
      ->type_name("FILE.npy");
  command
      ->add_option("--output-dir", options->output_dir,
                   "Gets one file <stem>.npy per stem: [samples, tokens, outputs], float32")
      ->type_name("DIR")
      ->required();
  command
      ->add_option("--batch-size", options->batch_size,
                   "Samples per forward pass (inference.batch_size)")
      ->type_name("N")
      ->default_str("as configured");
  command->add_option("--device", options->device, "Where to compute (inference.device)")
      ->type_name("auto|cuda|cpu")
      ->default_str("as configured");
  options->config.add_to(*command);
  command->callback([&run, options] { run = [options] { return run_predict(*options); }; });
}

}  // namespace stemfabric::cli
