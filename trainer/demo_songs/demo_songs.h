// `stemfabric demo-songs`: music with known stems, composed from a seed and played by a sound font.
//
//   <output_dir>/song-<seed>-<number>/
//     mixture.wav    the exact sum of the stems, sample by sample
//     vocals.wav drums.wav bass.wav harmonic.wav perc.wav sub.wav    those that the song has
//     song.json      what was composed: key, mode, tempo, metre, chords, instruments, onsets
//
// WAV, 16 bits, stereo. docs/demo_songs.md describes songs and file.
#pragma once

#include <cstdint>
#include <filesystem>

#include "trainer/demo_songs/song_plan.h"

namespace stemfabric {

struct DemoSongsOptions {
  std::filesystem::path output_dir;  // is made
  int64_t count = 0;
  int64_t first = 0;  // number of the first song
  uint64_t seed = 1;
  double duration = 20.0;  // seconds; each song has the whole number of bars nearest to it
  int sample_rate = 44100;
  PatchSet patches = PatchSet::kTrain;
  bool all_stems = false;            // no song lacks a stem
  std::filesystem::path sound_font;  // empty: find_sound_font()
  int jobs = 0;                      // songs at a time; 0 = all cores of this process
};

struct DemoSongsSummary {
  int64_t made = 0;
  int64_t kept = 0;      // were there already, made with the same options
  double seconds = 0.0;  // of music, made and kept
};

// A song depends on (seed, number) and the options but for count, first and jobs. Its folder
// appears whole or not at all; one that is there and was made with the same options is kept, so a
// call that was cut off is repeated to go on. UsageError for a folder of that name with something
// else in it, or without FluidSynth or sound font.
DemoSongsSummary make_demo_songs(const DemoSongsOptions& options);

}  // namespace stemfabric
