// Parts of evaluated tracks to be heard and seen: excerpts as FLAC files beside a report.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "trainer/evaluation/audio_evaluation.h"

namespace stemfabric {

inline constexpr int kAudioExamples = 3;  // tracks of a report that have one
inline constexpr double kExampleSeconds = 8;

// A sound, with what the page shows of it. Empty file: there is none.
struct AudioExcerpt {
  std::string file;     // relative to the report
  std::string picture;  // spectrogram, a data URI
};
struct AudioExampleRow {
  std::string name;  // "mixture", "vocals"
  AudioExcerpt truth, estimate;
};
struct AudioExample {
  std::string track;
  double begin = 0;    // seconds
  double seconds = 0;  // of each excerpt
  std::vector<AudioExampleRow> rows;
};

// The part of kExampleSeconds in which the mixture is loudest (the whole track if that is shorter),
// written to <report's folder>/audio/<number>/. A track too short for a spectrum has no rows.
AudioExample write_example(const std::filesystem::path& report_folder, int number,
                           const AudioTrackEvaluation& track, const TrackSignals& signals);

// A section of the page; empty without examples.
std::string examples_section(const std::vector<AudioExample>& examples);

}  // namespace stemfabric
