// A snapshot of a song: the Studio's fields and places in time (trainer/snapshot/layout.h), with
// what their names say in them. docs/features.md lists every value.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "runtime/device/execution_context.h"
#include "trainer/features/rhythm.h"
#include "trainer/snapshot/schema.h"

namespace stemfabric {

inline constexpr std::size_t kMaxSnapshotTransients = 1000;

struct SongSnapshot {
  SnapshotRecord record;  // id: a UUID made from the audio
  int64_t timestamp = 0;  // ms since 1970: when the audio file was changed last
  std::vector<Onset> transients;
};

struct SongFiles {
  std::filesystem::path mixture;
  std::filesystem::path stems;  // folder with <stem>.wav, .flac …; empty: no ground truth
};

// Reads the song at the rate of its file, mono or stereo. Deterministic. InputError for a file that
// cannot be read, is longer than read_audio() allows or shorter than 2049 samples (no spectral
// frame), and for a folder without a stem or with one of another length than the mixture.
SongSnapshot analyse_song(const ExecutionContext& ctx, const SongFiles& files);

// The Studio's JSON, one object in one line.
std::string snapshot_json(const SongSnapshot& snapshot);

}  // namespace stemfabric
