// `stemfabric dataset --audio`: a folder of multi-track audio in, an audio data set out. Format and
// rules: docs/audio_data.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "trainer/audio_data/audio_audit.h"
#include "trainer/audio_data/track_layout.h"
#include "trainer/config/config.h"

namespace stemfabric {

struct AudioDatasetOptions {
  std::filesystem::path root;  // of the audio, or a table *.csv
  TrackLayout layout = TrackLayout::kAuto;
  std::filesystem::path output_dir;  // the data set becomes output_dir / run_label
  std::string run_label;
  Config config;  // audio.sample_rate, data.train_ratio, data.split_seed, data.stem_map
  bool overwrite = false;
  int threads = 0;  // 0 = all cores this process may use
};

struct AudioDatasetSummary {
  std::filesystem::path folder;
  std::string hash;
  int64_t train = 0;
  int64_t validation = 0;
  int64_t test = 0;
  int64_t left_out = 0;
  int64_t reused = 0;  // tracks taken from data sets in output_dir
  bool moved_one = false;
};

// Tracks that cannot be used are left out, with the reasons in `audit`, which is filled also when
// this throws an InputError because no track is left for training. Memory does not depend on the
// number of tracks. A track whose files, stem map and rate are those of a track in any data set of
// output_dir is linked from there, not made again. The folder appears whole or not at all.
AudioDatasetSummary build_audio_dataset(const AudioDatasetOptions& options, AudioAudit& audit);

}  // namespace stemfabric
