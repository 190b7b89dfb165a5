// `stemfabric features`: songs in, snapshots of the Studio's schema out. docs/features.md.
#pragma once

#include <cstdint>
#include <filesystem>

namespace stemfabric {

struct FeaturesOptions {
  // An audio file, or a folder: its audio files are songs without stems, its sub-folders that hold
  // a file mixture.* are songs whose stems lie beside it.
  std::filesystem::path input;
  std::filesystem::path stems;   // folder of an audio file's stems; empty: none
  std::filesystem::path output;  // *.jsonl: one snapshot per line; else *.json, of one song only
  int jobs = 0;                  // songs at a time; 0 = all cores of this process
};

struct FeaturesSummary {
  int64_t songs = 0;
  int64_t with_stems = 0;
  double seconds = 0.0;  // of audio
};

// Snapshots come in the order of the names, audio files before folders, whatever the number of
// jobs. The output appears whole or not at all. UsageError for a folder with another output than
// .jsonl or with `stems`, InputError for an input without songs and for songs that analyse_song()
// refuses.
FeaturesSummary make_snapshots(const FeaturesOptions& options);

}  // namespace stemfabric
