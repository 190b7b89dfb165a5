// The part of audio_dataset.h that opens folders.
#include <fmt/format.h>

#include "runtime/core/check.h"
#include "runtime/io/file.h"
#include "trainer/audio_data/audio_dataset.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxManifestBytes = 256ULL << 20;

}  // namespace

bool is_audio_dataset(const fs::path& root) {
  const fs::path file = root / "manifest.json";
  std::error_code unreadable;  // somebody else's folder
  return fs::is_regular_file(file, unreadable) &&
         is_audio_manifest(read_text_file(file, kMaxManifestBytes));
}

AudioDatasetFolder open_audio_dataset(const fs::path& root) {
  const fs::path file = root / "manifest.json";
  if (!fs::is_regular_file(file)) {
    throw InputError(
        "{}: holds no manifest.json; make a data set with `stemfabric dataset --audio`",
        root.string());
  }
  AudioDatasetFolder folder;
  folder.root = root;
  folder.manifest_text = read_text_file(file, kMaxManifestBytes);
  folder.manifest = parse_audio_manifest(folder.manifest_text, file);
  for (std::size_t side = 0; side < kAudioSides; ++side) {
    auto& tracks = side == kTrainSide        ? folder.train
                   : side == kValidationSide ? folder.validation
                                             : folder.test;
    for (const ManifestTrack& track : folder.manifest.tracks[side]) {
      tracks.push_back(std::make_shared<const AudioTrack>(root, track.info));
    }
  }
  if (folder.train.empty()) {
    throw InputError("{}: lists no track for training; make the data set again", file.string());
  }
  folder.hash = folder.manifest.hash();
  return folder;
}

void check_content(const AudioDatasetFolder& folder) {
  std::string changed;
  int64_t count = 0;
  for (const auto* side : {&folder.train, &folder.validation, &folder.test}) {
    for (const auto& track : *side) {
      if (!track->intact()) {
        changed += fmt::format("\n  {}", track->path().string());
        ++count;
      }
    }
  }
  if (count > 0) {
    throw InputError(
        "{}: {} {} not what the manifest says: changed or damaged; copy them again, or make the "
        "data set again{}",
        folder.root.string(), count, count == 1 ? "file is" : "files are", changed);
  }
}

}  // namespace stemfabric
