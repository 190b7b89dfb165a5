// manifest.json of an audio data set (docs/audio_data.md): what it holds, and how it was made.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "trainer/audio_data/audio_audit.h"
#include "trainer/audio_data/audio_track.h"
#include "trainer/stems.h"

namespace stemfabric {

enum AudioSide : uint8_t { kTrainSide, kValidationSide, kTestSide, kAudioSides };
inline constexpr std::array<const char*, kAudioSides> kAudioSideNames = {"train", "validation",
                                                                         "test"};

struct ManifestTrack {
  AudioTrackInfo info;
  std::string key;   // TrackIdentity::key
  TrackAudit audit;  // in a manifest that was read: files, errors and notes
};

struct AudioManifest {
  std::string run_id;
  std::string root;  // where the files were
  std::string layout;
  int64_t sample_rate = 0;
  std::string preset;                         // of the stem map
  std::array<std::string, kStemCount> stems;  // its entries
  std::string missing;
  double train_ratio = 0;
  int64_t split_seed = 0;
  bool moved_one = false;  // one track changed sides so that none is empty
  std::array<std::vector<ManifestTrack>, kAudioSides> tracks;  // by id
  std::vector<TrackAudit> left_out;

  std::string hash() const;  // over the tracks' ids and contents
};

std::string audio_manifest_text(const AudioManifest& manifest);  // sealed (runtime/io/self_hash.h)

// InputErrors name the file and the entry.
bool is_audio_manifest(const std::string& text);
AudioManifest parse_audio_manifest(const std::string& text, const std::filesystem::path& file);

}  // namespace stemfabric
