// Key, mode and the strongest pitches of a piece of music.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "runtime/device/execution_context.h"
#include "trainer/snapshot/schema.h"

namespace stemfabric {

struct Tonality {
  static constexpr int kSampleRate = 11025;
  static constexpr int64_t kWindow = 4096, kHop = 1024;  // 2.7 Hz between bins

  // Sum over the frames of the spectral peaks between 55 and 2000 Hz by pitch class (A = 440 Hz),
  // C first; all of the energy is 1. Zero if there is no peak.
  std::array<double, 12> chroma{};
  int key = 0;  // index in kKeyNames
  Mode mode = Mode::kUnknown;
  // Frequencies of the highest peaks of the mean power spectrum up to 5 kHz, the highest first.
  std::vector<double> dominant_frequencies;
  // Share of the chroma outside the triad on the key: 0 if nothing else sounds. 0.5 without peaks.
  double tension = 0.5;
};
Tonality analyse_tonality(const ExecutionContext& ctx, std::span<const float> mono_11025);

struct KeyEstimate {
  int key = 0;
  Mode mode = Mode::kUnknown;
};
// The major or minor key whose profile correlates best with the chroma. Profiles: Albrecht and
// Shanahan, "The use of large corpora to train a new type of key-finding algorithm", Music
// Perception 2013. Nothing for a chroma of zeros.
std::optional<KeyEstimate> estimate_key(const std::array<double, 12>& chroma);

}  // namespace stemfabric
