// What an evaluation found out about the tracks that it is done with, kept beside its reports, so
// that one that was interrupted goes on: a JSON file per track in <report's folder>/tracks/.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "trainer/evaluation/audio_evaluation.h"
#include "trainer/report/audio_examples.h"

namespace stemfabric {

class TrackResults {
 public:
  struct Result {
    AudioTrackEvaluation evaluation;
    std::optional<AudioExample> example;
  };
  // `how`: all that the results depend on: tracks and their order, weights, settings, code. Results
  // of anything else that lie in the folder are removed.
  TrackResults(std::filesystem::path report_folder, const std::string& how);

  // Of the track with that number (from 1), if it was kept; nothing if its file cannot be read or
  // the example's files are gone.
  std::optional<Result> find(int number, const AudioTrack& track, int64_t sample_rate) const;
  void keep(int number, const Result& result) const;  // atomic

 private:
  std::filesystem::path file(int number) const;

  std::filesystem::path report_folder_;
};

}  // namespace stemfabric
