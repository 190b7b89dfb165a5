// Which tracks a folder of multi-track audio holds. Five layouts (docs/audio_data.md has pictures);
// nothing is decoded here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace stemfabric {

enum class TrackLayout : uint8_t {
  kAuto,
  kMusdb18,   // train/ and test/ with a folder per track: mixture, vocals, drums, bass, other
  kMoisesdb,  // a folder per track, in it a folder per source with any number of files
  kTracks,    // a folder per track, in it a file per source
  kStems,     // a folder per source, in it a file per track
  kCsv,       // a table: track, split, and a column of paths per source
};
TrackLayout track_layout(std::string_view name);  // "auto", "musdb18", …; UsageError for another
std::string_view track_layout_name(TrackLayout layout);
std::vector<std::string> track_layout_names();

// Which split the layout puts a track in.
enum class TrackSplit : uint8_t { kByHash, kTrain, kValidation, kTest };

struct AudioSource {
  std::string name;                          // "vocals"
  std::vector<std::filesystem::path> files;  // their sum is the source
};

struct TrackFiles {
  std::string id;  // unique in the data set, UTF-8
  TrackSplit split = TrackSplit::kByHash;
  std::vector<AudioSource> sources;  // by name; at least one
  std::filesystem::path mixture;     // empty: the sum of the sources
};

struct AudioRoot {
  std::filesystem::path root;
  TrackLayout layout = TrackLayout::kAuto;  // the one that was found or asked for
  std::vector<TrackFiles> tracks;           // by id
  std::vector<std::string> source_names() const;
};

// `root` is a folder, or the table itself. InputErrors say what was found instead.
AudioRoot find_audio_tracks(const std::filesystem::path& root, TrackLayout layout);

// The 14 tracks of MUSDB18's training part that are its usual validation split, as the package
// `musdb` (sigsep-mus-db, configs/mus.yaml) lists them.
bool is_musdb_validation_track(std::string_view name);

}  // namespace stemfabric
