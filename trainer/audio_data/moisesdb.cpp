#include "trainer/audio_data/moisesdb.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/core/check.h"
#include "runtime/io/file.h"
#include "trainer/training/json_fields.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

const Json& list_of(const Json& object, const char* key, const std::string& source) {
  const Json& list = json_member(object, key, source);
  if (!list.is_array()) {
    throw InputError("{}: `{}` is no list", source, key);
  }
  return list;
}

// data.json: {"stems": [{"stemName": …, "tracks": [{"id": …, "extension": "wav"}]}]}
void require_listed_recordings(const TrackFiles& track, const fs::path& file) {
  const std::string name = file.string();
  const Json data = parse_json_object(read_text_file(file, 16ULL << 20), name);
  for (const Json& stem : list_of(data, "stems", name)) {
    const auto source = json_field<std::string>(stem, "stemName", name);
    const auto found = std::ranges::find(track.sources, source, &AudioSource::name);
    for (const Json& recording : list_of(stem, "tracks", name)) {
      const auto id = json_field<std::string>(recording, "id", name);
      const bool there = found != track.sources.end() &&
                         std::ranges::any_of(found->files, [&](const fs::path& path) {
                           return path.stem().string() == id;
                         });
      if (!there) {
        throw InputError("{}: lists a recording {} of {}, which is not in the folder {}", name,
                         id.substr(0, 60), source.substr(0, 60), source.substr(0, 60));
      }
    }
  }
}

}  // namespace

std::vector<TrackFiles> find_moisesdb_tracks(const FolderListing& root) {
  std::vector<TrackFiles> tracks;
  for (const fs::path& folder : root.folders) {
    TrackFiles track;
    track.id = folder.filename().string();
    for (const fs::path& inner : list_folder(folder).folders) {
      FolderListing recordings = list_folder(inner);
      if (!recordings.audio_files.empty()) {
        track.sources.push_back({inner.filename().string(), std::move(recordings.audio_files)});
      }
    }
    if (const fs::path data = folder / "data.json"; fs::exists(data)) {
      require_listed_recordings(track, data);
    }
    tracks.push_back(std::move(track));
  }
  return tracks;
}

}  // namespace stemfabric
