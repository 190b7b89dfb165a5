// stemfabric demo-songs: music with known stems.
#include <fmt/core.h>

#include <limits>
#include <memory>
#include <string>

#include "runtime/core/check.h"
#include "trainer/cli/command.h"
#include "trainer/cli/option_values.h"
#include "trainer/demo_songs/demo_songs.h"

namespace stemfabric::cli {
namespace {

int run_demo_songs(const DemoSongsOptions& options) {
  const DemoSongsSummary summary = make_demo_songs(options);
  fmt::print("{} songs made, {} kept: {:.1f} min of music in {}\n", summary.made, summary.kept,
             summary.seconds / 60.0, options.output_dir.string());
  return 0;
}

}  // namespace

void add_demo_songs_command(CLI::App& app, Run& run) {
  auto options = std::make_shared<DemoSongsOptions>();
  auto patches = std::make_shared<std::string>(patch_set_name(options->patches));
  DemoSongsOptions& o = *options;
  CLI::App* command = app.add_subcommand(
      "demo-songs", "Compose and render songs with known stems (needs FluidSynth)");
  command->add_option("--count", o.count, "How many songs")
      ->type_name("N")
      ->check(whole_number(1, 1'000'000))
      ->required();
  command->add_option("--output-dir", o.output_dir, "Gets a folder song-<seed>-<number> per song")
      ->type_name("DIR")
      ->required();
  command
      ->add_option("--seed", o.seed, "Which songs: each is a function of the seed and its number")
      ->check(whole_number(0, std::numeric_limits<int64_t>::max()))
      ->capture_default_str();
  command->add_option("--first", o.first, "Number of the first song")
      ->check(whole_number(0, 1'000'000'000))
      ->capture_default_str();
  command
      ->add_option("--duration", o.duration,
                   "Seconds; a song has the number of whole bars nearest to it")
      ->check(real_number(1.0, 600.0))
      ->capture_default_str();
  command->add_option("--sample-rate", o.sample_rate, "Hz")
      ->check(whole_number(8000, 96000))
      ->capture_default_str();
  command
      ->add_option("--patches", *patches, "Which instruments: train and test have none in common")
      ->check(one_of({"train", "test", "all"}))
      ->capture_default_str();
  command->add_flag("--all-stems", o.all_stems,
                    "Every song has all six stems; otherwise one in six lacks one to three");
  command->add_option("--sound-font", o.sound_font, "General MIDI sound font; none = the system's")
      ->type_name("FILE.sf2");
  command->add_option("--jobs", o.jobs, "Songs made at a time; 0 = all cores of this process")
      ->check(whole_number(0, 1024))
      ->capture_default_str();
  command->callback([&run, options, patches] {
    run = [options, patches] {
      options->patches = patch_set(*patches);
      return run_demo_songs(*options);
    };
  });
}

}  // namespace stemfabric::cli
