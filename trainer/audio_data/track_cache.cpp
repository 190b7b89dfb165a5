#include "trainer/audio_data/track_cache.h"

#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "runtime/io/file.h"
#include "runtime/io/self_hash.h"
#include "trainer/audio_data/audio_dataset.h"

namespace stemfabric {

namespace fs = std::filesystem;

TrackCache::TrackCache(const fs::path& folder) {
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    try {
      if (!is_audio_dataset(it->path())) {
        continue;
      }
      const fs::path file = it->path() / "manifest.json";
      const AudioManifest manifest = parse_audio_manifest(read_text_file(file), file);
      for (const auto& side : manifest.tracks) {
        for (const ManifestTrack& track : side) {
          entries_.insert_or_assign(track.key, Entry{it->path() / track.info.file, track});
        }
      }
    } catch (const Error& damaged) {
      log_debug("no tracks are taken from {}: {}", it->path().string(), damaged.what());
    }
  }
}

std::optional<ManifestTrack> TrackCache::take(const std::string& key, const fs::path& file) const {
  const auto found = entries_.find(key);
  if (found == entries_.end()) {
    return std::nullopt;
  }
  const fs::path& old = found->second.file;
  const AudioTrackInfo& info = found->second.track.info;
  std::error_code error;
  if (fs::file_size(old, error) != info.bytes || error ||
      !same_hash(sha256_file(old), info.sha256)) {
    return std::nullopt;
  }
  fs::create_hard_link(old, file, error);
  if (error) {
    fs::copy_file(old, file, error);
  }
  return error ? std::nullopt : std::optional(found->second.track);
}

}  // namespace stemfabric
