// Makes one track of an audio data set out of its files: decodes and resamples them block by block,
// adds the sources up to stems as the stem map says, measures, and writes the PCM.
//
//   mixture   = the mixture file, or the sum of all sources
//   stem      = its entry of the map; sources that the track lacks count as silent, but without any
//               of them the stem is not known (absent), or silent if data.stem_map.missing says so
//   residual  = mixture - sum of the other stems; not known if one of those is not
//   remainder = mixture - sum of all stems; left out below kRemainderFloorDb of the mixture
//
// Files shorter than the longest one are followed by silence. A stem is stored as i16 if all its
// samples are integers / 32768 by their origin (files of 16 bits at the wanted rate, no filter),
// else as f32. Memory does not depend on the track's length, but for 8 bytes per frame and low-pass
// entry.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "trainer/audio_data/audio_audit.h"
#include "trainer/audio_data/audio_track.h"
#include "trainer/audio_data/stem_map.h"
#include "trainer/audio_data/track_layout.h"

namespace stemfabric {

inline constexpr double kMinTrackSeconds = 0.1;
inline constexpr double kMaxTrackSeconds = 2 * 3600;
inline constexpr double kRemainderFloorDb = -60;

// What tells whether a track was made before.
struct TrackIdentity {
  std::string
      content;      // SHA-256 over the files' contents alone: equal for copies under other names
  std::string key;  // and over their names, the stem map and the rate
};

struct MadeTrack {
  AudioTrackInfo info;  // of a usable track; `file` is left to the caller
  TrackAudit audit;
};

class TrackMaker {
 public:
  TrackMaker(const std::filesystem::path& root, const StemMap& map, int64_t sample_rate)
      : root_(root), map_(map), sample_rate_(sample_rate) {}

  // Reads all of the files. InputError if one cannot be read.
  TrackIdentity identify(const TrackFiles& files) const;
  // Writes `file` if the track is usable. What is wrong with the files becomes a problem of the
  // audit; IoErrors of writing pass through. Scratch files lie beside `file` and are removed.
  MadeTrack make(const TrackFiles& files, const std::filesystem::path& file) const;

 private:
  std::filesystem::path root_;
  const StemMap& map_;
  int64_t sample_rate_;
};

}  // namespace stemfabric
