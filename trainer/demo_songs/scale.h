// Modes of the diatonic scale and chords on their degrees.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace stemfabric {

enum class ScaleMode : uint8_t { kMajor, kMinor, kDorian, kPhrygian, kLydian, kMixolydian };
inline constexpr int kScaleModeCount = 6;
std::string_view mode_name(ScaleMode mode);  // "major", "minor", "dorian", …

// Degree 0 is the tonic; degrees below 0 and above 6 lie in other octaves. In minor the dominant's
// chord may have the raised seventh degree (harmonic minor), for all parts of its bar.
struct Chord {
  int degree = 0;
  bool raised_seventh = false;
};

struct Scale {
  int tonic = 0;  // pitch class
  ScaleMode mode = ScaleMode::kMajor;

  // MIDI key of a degree under a chord, with the tonic of degree 0 in octave -1 (keys 0 … 11).
  int key(int degree, const Chord& chord) const;
  // The pitch classes of the triad or seventh chord, root first.
  std::vector<int> pitch_classes(const Chord& chord, bool seventh) const;
  std::string chord_name(const Chord& chord, bool seventh) const;  // "Am7", "F#dim", "Cmaj7"
};

// The pitch classes as keys within [low, high], ascending, each once (low + 12 <= high + 1).
std::vector<int> voicing(const std::vector<int>& pitch_classes, int low, int high);
// The key of a pitch class that is nearest to `to` (the lower one of two) and not outside
// [low, high] (a span of an octave or more).
int nearest_key(int pitch_class, int to, int low, int high);

}  // namespace stemfabric
