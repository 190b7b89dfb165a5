#include "trainer/demo_songs/demo_songs.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/core/check.h"
#include "runtime/core/progress.h"
#include "runtime/device/thread_pool.h"
#include "runtime/io/audio_file.h"
#include "runtime/io/file.h"
#include "trainer/demo_songs/song_sound.h"
#include "trainer/demo_songs/song_truth.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;
constexpr const char* kTruthFile = "song.json";

fs::path song_folder(const DemoSongsOptions& options, int64_t song) {
  return options.output_dir / fmt::format("song-{}-{:05}", options.seed, song);
}

// Whether the song is there already. A folder of its name that holds anything else is refused.
bool is_made(const DemoSongsOptions& options, int64_t song) {
  const fs::path folder = song_folder(options, song);
  if (!fs::exists(folder)) {
    return false;
  }
  std::string difference = "has no readable song.json";
  if (fs::is_regular_file(folder / kTruthFile)) {
    const auto json =
        nlohmann::ordered_json::parse(read_text_file(folder / kTruthFile), nullptr, false);
    if (json.is_object() && json.contains("made_with")) {
      if (json["made_with"] == song_made_with(options, song)) {
        return true;
      }
      difference = "was made with other options (made_with in its song.json)";
    }
  }
  throw UsageError("{} {}; give another --output-dir or remove it", folder.string(), difference);
}

void write_wav(const fs::path& path, int sample_rate, const std::vector<int16_t>& samples) {
  std::vector<float> floats(samples.size());
  std::transform(samples.begin(), samples.end(), floats.begin(),
                 [](int16_t x) { return static_cast<float>(x) / 32768.0f; });
  AudioWriter writer(path, sample_rate, 2, SampleFormat::kPcm16);
  writer.write(floats.data(), static_cast<int64_t>(floats.size() / 2));
  writer.finish();
}

double make_song(const DemoSongsOptions& options, const SoundFont& font, int64_t song) {
  const SongPlan plan =
      plan_song(options.seed, song, options.patches, options.duration, options.all_stems);
  const Score score = compose(options.seed, song, plan);
  const SongSound sound = render_song(font, options.sample_rate, plan, score);
  const auto truth = song_truth(options, song, plan, score, sound.frames);
  create_directory_atomically(song_folder(options, song), [&](const fs::path& folder) {
    write_wav(folder / "mixture.wav", options.sample_rate, sound.mixture);
    for (std::size_t s = 0; s < kStemCount; ++s) {
      if (!sound.stems[s].empty()) {
        write_wav(folder / fmt::format("{}.wav", kStemNames[s]), options.sample_rate,
                  sound.stems[s]);
      }
    }
    write_text_file(folder / kTruthFile, truth.dump(1) + "\n");
  });
  return static_cast<double>(sound.frames) / options.sample_rate;
}

double seconds_of(const DemoSongsOptions& options, int64_t song) {
  const AudioInfo info = read_audio_info(song_folder(options, song) / "mixture.wav");
  return static_cast<double>(info.frames) / info.sample_rate;
}

}  // namespace

DemoSongsSummary make_demo_songs(const DemoSongsOptions& given) {
  DemoSongsOptions options = given;
  if (options.sound_font.empty()) {
    options.sound_font = find_sound_font();
    if (options.sound_font.empty()) {
      throw UsageError("no sound font is installed; {}", sound_font_hint());
    }
  }
  const SoundFont font(options.sound_font, options.sample_rate);
  make_directories(options.output_dir);
  DemoSongsSummary summary;
  std::vector<int64_t> songs;
  for (int64_t song = options.first; song < options.first + options.count; ++song) {
    if (is_made(options, song)) {
      ++summary.kept;
      summary.seconds += seconds_of(options, song);
    } else {
      songs.push_back(song);
    }
  }
  Progress progress("demo songs", "songs", static_cast<int64_t>(songs.size()));
  std::vector<double> seconds(songs.size());
  ThreadPool(options.jobs).run(static_cast<int64_t>(songs.size()), [&](int64_t i) {
    const auto index = static_cast<std::size_t>(i);
    seconds[index] = make_song(options, font, songs[index]);
    progress.advance(1);
  });
  for (const double s : seconds) {
    summary.seconds += s;
  }
  summary.made = static_cast<int64_t>(songs.size());
  return summary;
}

}  // namespace stemfabric
