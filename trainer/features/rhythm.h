// Onsets and tempo of a piece of music.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "runtime/device/execution_context.h"

namespace stemfabric {

// How much louder the bands of the spectrum get, frame by frame: the sum over 24 bands of the rise
// of log(1 + 100 · amplitude / RMS of the piece), less its mean over the second around, not below
// 0. Independent of the level. Source: Klapuri, Eronen, Astola, "Analysis of the meter of acoustic
// musical signals", IEEE TASLP 2006 (band-wise log compression).
struct OnsetEnvelope {
  static constexpr int kSampleRate = 22050;
  static constexpr int64_t kWindow = 1024, kHop = 256;
  std::vector<double> values;

  static constexpr double frames_per_second() {
    return static_cast<double>(kSampleRate) / static_cast<double>(kHop);
  }
  // The middle of a frame's window.
  static constexpr double seconds(double frame) {
    return (frame * static_cast<double>(kHop) + 0.5 * static_cast<double>(kWindow)) / kSampleRate;
  }
};
OnsetEnvelope onset_envelope(const ExecutionContext& ctx, std::span<const float> mono_22050);

struct Onset {
  double time = 0.0;      // seconds
  double strength = 0.0;  // 0 … 1: of the strongest onset of the piece
};
// Local maxima over ±50 ms of at least a tenth of the strongest; at most `most`, of which then the
// strongest, in order of time.
std::vector<Onset> find_onsets(const OnsetEnvelope& envelope, std::size_t most);

// Beats per minute, 40 … 220: the period whose multiples the autocorrelation of the envelope and
// whose frequency its spectrum favour, under a log-normal preference for 120 (an octave wide).
// Nothing for less than 4 s or without onsets. Source of the product of the two: Peeters,
// "Template-based estimation of time-varying tempo", EURASIP JASP 2007.
std::optional<double> estimate_tempo(const OnsetEnvelope& envelope);

}  // namespace stemfabric
