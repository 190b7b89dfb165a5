// An audio file into six: what `stemfabric separate` does.
#pragma once

#include <array>
#include <filesystem>

#include "runtime/io/audio_file.h"
#include "trainer/separation/separate_signal.h"
#include "trainer/stems.h"

namespace stemfabric {

struct SeparateRequest {
  std::filesystem::path model;  // weights or run folder
  std::filesystem::path input;
  std::filesystem::path output_dir;  // gets <stem>.wav or <stem>.flac
  bool flac = false;
  SampleFormat sample_format = SampleFormat::kPcm16;
  SeparationOptions options;  // gain is set here
};

struct SeparateResult {
  std::array<std::filesystem::path, kStemCount> files;
  std::array<int64_t, kStemCount> clipped{};  // samples beyond full scale
  AudioInfo source;
  double gain = 1.0;  // the input was brought to the level of training by this, and back
};

// The stems have the input's sample rate, number of channels (1 or 2) and length. The input is read
// twice: for its level, then block by block; memory does not grow with its length. Files appear
// when all six are done. InputErrors name the file; IoError.
SeparateResult separate_file(const ExecutionContext& ctx, const SeparateRequest& request);

}  // namespace stemfabric
