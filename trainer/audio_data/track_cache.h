// Tracks of the data sets in a folder, by what they were made of.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "trainer/audio_data/audio_manifest.h"

namespace stemfabric {

class TrackCache {
 public:
  // Looks through the manifests of <folder>/*/; one that cannot be read is passed over.
  explicit TrackCache(const std::filesystem::path& folder);

  // Puts the track of that key at `file` (a hard link, or a copy where there are none) if there is
  // one and its content is what its manifest says. Const, so from any thread.
  std::optional<ManifestTrack> take(const std::string& key,
                                    const std::filesystem::path& file) const;

 private:
  struct Entry {
    std::filesystem::path file;
    ManifestTrack track;
  };
  std::map<std::string, Entry> entries_;
};

}  // namespace stemfabric
