#include "trainer/features/features.h"

#include <string>
#include <vector>

#include "runtime/core/check.h"
#include "runtime/core/progress.h"
#include "runtime/device/thread_pool.h"
#include "runtime/io/file.h"
#include "trainer/audio_data/folder_listing.h"
#include "trainer/features/song_snapshot.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;

// Audio files first, then folders, each by name.
std::vector<SongFiles> songs_in(const fs::path& folder) {
  const FolderListing listing = list_folder(folder);
  std::vector<SongFiles> songs;
  for (const fs::path& file : listing.audio_files) {
    songs.push_back({.mixture = file, .stems = {}});
  }
  for (const fs::path& inner : listing.folders) {
    for (const fs::path& file : list_folder(inner).audio_files) {
      if (file.stem() == "mixture") {
        songs.push_back({.mixture = file, .stems = inner});
      }
    }
  }
  if (songs.empty()) {
    throw InputError("{} holds no song: no audio file ({}), and no folder with one named mixture",
                     folder.string(), kAudioExtensions);
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
