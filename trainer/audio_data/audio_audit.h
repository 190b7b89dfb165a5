// What was found in the files of an audio data set: numbers per file and track, and problems, each
// with the file and what to do. Shown as a table, kept as JSON.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "runtime/io/audio_file.h"
#include "trainer/audio_data/audio_track.h"
#include "trainer/audio_data/track_layout.h"

namespace stemfabric {

// Peak and RMS in units of full scale, at the wanted rate.
struct FileAudit {
  std::string file;    // relative to the root
  std::string source;  // "vocals", "mixture"
  AudioInfo info;
  double peak = 0;
  double rms = 0;
  int64_t clipped = 0;  // samples at full scale or beyond
  double silent = 0;    // share of the blocks of 100 ms below -60 dB of full scale
};

struct AudioProblem {
  bool fatal = false;  // the track is left out
  std::string text;    // names the file
};

struct TrackAudit {
  std::string id;
  TrackSplit split = TrackSplit::kByHash;  // kTrain, kValidation or kTest once it is decided
  bool usable = false;
  int64_t frames = 0;
  double gain = 1.0;
  std::array<bool, kStemCount> present{};
  // Energy of (mixture file - sum of the sources) over the energy of the mixture, in dB; none
  // without a mixture file.
  std::optional<double> sum_error_db;
  // The same for what the mixture has besides the stems.
  double remainder_db = 0;
  std::vector<FileAudit> files;
  std::vector<AudioProblem> problems;
};

struct AudioAudit {
  std::string root;
  std::string layout;
  int64_t sample_rate = 0;
  std::vector<TrackAudit> tracks;
};

// Aligned columns, a line per track, then the problems.
std::string audit_table(const AudioAudit& audit);
std::string audit_text(const AudioAudit& audit);  // as JSON
nlohmann::ordered_json track_audit_to_json(const TrackAudit& track);
// The part that a manifest keeps of a track: files, sum error, problems.
void track_audit_from_json(const nlohmann::json& json, const std::string& source,
                           TrackAudit& track);

// Measures a stereo signal block by block.
class SignalMeter {
 public:
  explicit SignalMeter(int64_t sample_rate);
  void add(const float* left, const float* right, int64_t frames);
  void finish(FileAudit& audit);

 private:
  void end_block();
  int64_t block_frames_;
  int64_t in_block_ = 0;
  double block_energy_ = 0;
  int64_t blocks_ = 0;
  int64_t silent_blocks_ = 0;
  int64_t frames_ = 0;
  double energy_ = 0;
  float peak_ = 0;
  int64_t clipped_ = 0;
};

double decibels(double energy_ratio);  // 10 log10; -200 for 0 and less

}  // namespace stemfabric
