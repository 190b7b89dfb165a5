// stemfabric separate: the six stems of a song.
#include <fmt/core.h>

#include <algorithm>
#include <memory>
#include <string>

#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "trainer/cli/command.h"
#include "trainer/cli/config_options.h"
#include "trainer/cli/inference_context.h"
#include "trainer/cli/option_values.h"
#include "trainer/separation/separate_file.h"

namespace stemfabric::cli {
namespace {

struct Options {
  ConfigOptions config;
  std::string model;
  std::string input;
  std::string output_dir;
  std::string format = "wav";
  std::string samples = "pcm16";
  bool residual = false;
  std::string num_overlap;
  std::string device;
};

SampleFormat sample_format(const Options& options) {
  if (options.samples == "float32" && options.format == "flac") {
    throw UsageError("--samples float32: FLAC holds integers; use pcm24, or --format wav");
  }
  return options.samples == "pcm16"   ? SampleFormat::kPcm16
         : options.samples == "pcm24" ? SampleFormat::kPcm24
                                      : SampleFormat::kFloat32;
}

int run_separate(const Options& options) {
  std::vector<ConfigOverride> overrides;
  if (!options.num_overlap.empty()) {
    overrides.push_back({"inference.num_overlap", options.num_overlap, "--num-overlap"});
  }
  if (!options.device.empty()) {
    overrides.push_back({"inference.device", options.device, "--device"});
  }
  const Config config = options.config.load(overrides).config;
  const SeparateResult result = separate_file(
      inference_context(config),
      {.model = options.model,
       .input = options.input,
       .output_dir = options.output_dir,
       .flac = options.format == "flac",
       .sample_format = sample_format(options),
       .options = {.num_overlap = config.inference.num_overlap, .residual = options.residual}});
  for (std::size_t s = 0; s < kStemCount; ++s) {
    if (result.clipped[s] > 0) {
      log_warning(
          "{}: {} samples are beyond full scale and were clipped; --samples float32 keeps "
          "them",
          result.files[s].string(), result.clipped[s]);
    }
    fmt::print("{}\n", result.files[s].string());
  }
  return 0;
}

}  // namespace

void add_separate_command(CLI::App& app, Run& run) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("separate", "Separate a song into its six stems");
  command
      ->add_option("--model", options->model,
                   "Weights (.safetensors) or folder of a training run on audio")
      ->type_name("PATH")
      ->required();
  command->add_option("song", options->input, "The song: WAV, FLAC, Ogg or MP3, mono or stereo")
      ->type_name("FILE")
      ->required();
  command
      ->add_option("--output-dir", options->output_dir,
                   "Gets one file <stem>.wav or <stem>.flac per stem, of the song's length, sample "
                   "rate and channels")
      ->type_name("DIR")
      ->required();
  command->add_option("--format", options->format, "Kind of the files")
      ->check(one_of({"wav", "flac"}))
      ->capture_default_str();
  command->add_option("--samples", options->samples, "How samples are stored")
      ->check(one_of({"pcm16", "pcm24", "float32"}))
      ->capture_default_str();
  command->add_flag("--residual", options->residual,
                    "Share what the stems leave of the song among them: they sum to it");
  command
      ->add_option("--num-overlap", options->num_overlap,
                   "Chunks that a frame is taken from, on average (inference.num_overlap)")
      ->type_name("N")
      ->default_str("as configured");
  command->add_option("--device", options->device, "Where to compute (inference.device)")
      ->type_name("auto|cuda|cpu")
      ->default_str("as configured");
  options->config.add_to(*command);
  command->callback([&run, options] { run = [options] { return run_separate(*options); }; });
}

}  // namespace stemfabric::cli
