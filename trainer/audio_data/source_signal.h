// One source of a track as a stereo signal, read block by block from start to end: the sum of its
// files, each followed by silence.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "trainer/audio/audio_input.h"
#include "trainer/audio_data/audio_audit.h"
#include "trainer/audio_data/audio_track.h"

namespace stemfabric {

// Samples [2, kFrames] of which a part may be in use.
struct StereoBlock {
  static constexpr int64_t kFrames = 1 << 14;
  std::vector<float> samples = std::vector<float>(kAudioChannels * kFrames);
  float* channel(int c) { return samples.data() + c * kFrames; }
  const float* channel(int c) const { return samples.data() + c * kFrames; }
};

class SourceSignal {
 public:
  // InputErrors of the files name them.
  SourceSignal(std::string name, const std::vector<std::filesystem::path>& files,
               int64_t sample_rate);

  const std::string& name() const { return name_; }
  int64_t frames() const { return frames_; }  // of the longest file
  bool exact_16_bit() const { return exact_; }
  // The next `frames` <= StereoBlock::kFrames frames; zeros behind the end.
  void read(int64_t frames, StereoBlock& block);
  // What was found in the files, once all was read. Names are relative to `root`.
  std::vector<FileAudit> audits(const std::filesystem::path& root);

 private:
  struct File {
    std::filesystem::path path;
    AudioInput input;
    SignalMeter meter;
  };
  std::string name_;
  std::vector<File> files_;
  int64_t frames_ = 0;
  bool exact_ = true;
  StereoBlock part_;
};

// The whole of a source through zero_phase_lowpass(): [2, frames] f32, frames >= the source's.
Tensor lowpassed_source(SourceSignal source, int64_t frames, double hertz, int64_t sample_rate);

}  // namespace stemfabric
