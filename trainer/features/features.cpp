#include "trainer/features/features.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/check.h"
#include "runtime/core/progress.h"
#include "runtime/device/thread_pool.h"
#include "runtime/io/file.h"
#include "trainer/features/song_snapshot.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 8> kAudioExtensions = {".wav", ".flac", ".aiff", ".aif",
                                                              ".ogg", ".oga",  ".opus", ".mp3"};

bool is_audio_file(const fs::path& path) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(), [](unsigned char c) {
    return static_cast<char>(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
  });
  return fs::is_regular_file(path) && std::find(kAudioExtensions.begin(), kAudioExtensions.end(),
                                                extension) != kAudioExtensions.end();
}

std::vector<fs::path> entries(const fs::path& folder) {
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(folder)) {
    paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::vector<SongFiles> songs_in(const fs::path& folder) {
  std::vector<SongFiles> songs;
  for (const fs::path& path : entries(folder)) {
    if (is_audio_file(path)) {
      songs.push_back({.mixture = path, .stems = {}});
    } else if (fs::is_directory(path)) {
      for (const fs::path& inner : entries(path)) {
        if (inner.stem() == "mixture" && is_audio_file(inner)) {
          songs.push_back({.mixture = inner, .stems = path});
        }
      }
    }
  }
  if (songs.empty()) {
    throw InputError(
        "{} holds no song: no audio file, and no folder with a file mixture.wav or "
        "another format",
        folder.string());
  }
  return songs;
}

std::vector<SongFiles> find_songs(const FeaturesOptions& options) {
  if (!fs::exists(options.input)) {
    throw InputError("{} is not there", options.input.string());
  }
  if (!fs::is_directory(options.input)) {
    return {{.mixture = options.input, .stems = options.stems}};
  }
  if (!options.stems.empty()) {
    throw UsageError("--stems belongs to one song; in a folder the stems lie beside each mixture");
  }
  if (options.output.extension() != ".jsonl") {
    throw UsageError("the snapshots of a folder go into one file *.jsonl, not {}",
                     options.output.string());
  }
  return songs_in(options.input);
}

}  // namespace

FeaturesSummary make_snapshots(const FeaturesOptions& options) {
  const std::vector<SongFiles> songs = find_songs(options);
  std::vector<SongSnapshot> snapshots(songs.size());
  Progress progress("features", "songs", static_cast<int64_t>(songs.size()));
  ThreadPool(options.jobs).run(static_cast<int64_t>(songs.size()), [&](int64_t i) {
    const ExecutionContext ctx({.threads = 1});
    const auto index = static_cast<std::size_t>(i);
    snapshots[index] = analyse_song(ctx, songs[index]);
    progress.advance(1);
  });
  FeaturesSummary summary;
  AtomicFile file(options.output);
  for (const SongSnapshot& snapshot : snapshots) {
    file.write(snapshot_json(snapshot) + "\n");
    const SnapshotRecord& record = snapshot.record;
    ++summary.songs;
    summary.with_stems += record.has_ground_truth ? 1 : 0;
    summary.seconds += static_cast<double>(record.samples) / record.sample_rate;
  }
  file.commit();
  return summary;
}

}  // namespace stemfabric
