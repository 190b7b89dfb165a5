// stemfabric features: songs in, snapshots out.
#include "trainer/features/features.h"

#include <fmt/core.h>

#include <memory>

#include "trainer/cli/command.h"
#include "trainer/cli/option_values.h"

namespace stemfabric::cli {
namespace {

int run_features(const FeaturesOptions& options) {
  const FeaturesSummary summary = make_snapshots(options);
  fmt::print("{} songs, {} with stems, {:.1f} min of audio: {}\n", summary.songs,
             summary.with_stems, summary.seconds / 60.0, options.output.string());
  return 0;
}

}  // namespace

void add_features_command(CLI::App& app, Run& run) {
  auto options = std::make_shared<FeaturesOptions>();
  CLI::App* command =
      app.add_subcommand("features", "Make snapshots of audio files, with spectra in them");
  command
      ->add_option("input,--input", options->input,
                   "Audio file, or folder of audio files and of folders with mixture and stems")
      ->type_name("PATH")
      ->required();
  command
      ->add_option("--stems", options->stems,
                   "Folder with the audio file's stems: vocals.wav, drums.wav …")
      ->type_name("DIR");
  command
      ->add_option("--output", options->output, "The snapshot (*.json), or one per line (*.jsonl)")
      ->type_name("FILE")
      ->required();
  command->add_option("--jobs", options->jobs, "Songs at a time; 0 = all cores of this process")
      ->check(whole_number(0, 1024))
      ->capture_default_str();
  command->callback([&run, options] { run = [options] { return run_features(*options); }; });
}

}  // namespace stemfabric::cli
