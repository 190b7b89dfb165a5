// stemfabric export: a trained model for browsers, ONNX Runtime, Keras and other programs.
#include <fmt/core.h>

#include <memory>
#include <string>

#include "trainer/cli/command.h"
#include "trainer/device_context.h"
#include "trainer/export/export_model.h"

namespace stemfabric::cli {
namespace {

struct Options {
  std::string model;
  std::string formats = "keras-h5,tfjs,onnx,safetensors";
  std::string output_dir;
  std::string evaluation;
  std::string licence;
  std::string web_weights = "fp32";
};

int run_export(const Options& options) {
  const ExportRequest request{.model = options.model,
                              .formats = parse_export_formats(options.formats),
                              .output_dir = options.output_dir,
                              .evaluation = options.evaluation,
                              .licence = options.licence,
                              .web_weights = parse_web_weights(options.web_weights)};
  const ExportResult result = export_model(device_context("cpu", "", 0), request);
  fmt::print("{} -> {}\n", result.weights.string(), options.output_dir);
  for (const ExportedFile& file : result.files) {
    fmt::print("  {:<28} {:>11} bytes\n", file.name, file.bytes);
  }
  fmt::print("read back, run and compared; largest difference as a share of the largest output:\n");
  for (const auto& [format, share] : result.agreement) {
    fmt::print("  {:<28} {:>11.1e}\n", format, share);
  }
  if (result.web_weights) {
    fmt::print(
        "{} weights in tfjs (compared with the trainer on the same): what the rounding changed\n"
        "  {:<28} {:>11.1e}\n  {:<28} {:>11.1e}\n",
        result.web_weights->kind, "at most, of the largest output", result.web_weights->largest,
        "root mean square", result.web_weights->rms);
  }
  return 0;
}

}  // namespace

void add_export_command(CLI::App& app, Run& run) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "export", "Write a trained model for TensorFlow.js, ONNX, Keras and other programs");
  command
      ->add_option("--model", options->model, "Weights (.safetensors) or folder of a training run")
      ->type_name("PATH")
      ->required();
  command
      ->add_option("--format", options->formats,
                   "Formats, separated by commas: keras-h5, tfjs, onnx, safetensors")
      ->type_name("LIST");
  command
      ->add_option("--output-dir", options->output_dir,
                   "Gets the files and a model card; new, empty or an earlier export")
      ->type_name("DIR")
      ->required();
  command
      ->add_option("--evaluation", options->evaluation,
                   "Scores for the model card: an evaluation_report.json of these weights")
      ->type_name("FILE")
      ->default_str("that of the run, if any");
  command
      ->add_option("--web-weights", options->web_weights,
                   "Weights in tfjs: fp32, or smaller and rounded: fp16, int8")
      ->type_name("KIND");
  command->add_option("--licence", options->licence, "Licence of the weights, for the model card")
      ->type_name("TEXT")
      ->default_str("not stated");
  command->callback([&run, options] { run = [options] { return run_export(*options); }; });
}

}  // namespace stemfabric::cli
