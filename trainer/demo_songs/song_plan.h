// What a demo song is to be, drawn before a note of it is written.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/demo_songs/scale.h"
#include "trainer/stems.h"

namespace stemfabric {

// A beat is what the foot taps: a quarter note, or three eighths in 6/8. Patterns divide it into
// `steps_per_beat`: 4, or 3 in swung and compound metres.
struct Style {
  std::string_view name;   // "rock", "waltz", …
  std::string_view metre;  // "4/4", "6/8", …
  int beats_per_bar;
  int steps_per_beat;
  int least_bpm, most_bpm;
};
inline constexpr int kStyleCount = 12;
const std::array<Style, kStyleCount>& song_styles();  // the order of kDrumPatterns

// Which instruments may be drawn: the two halves of the lists share none, so that a model can be
// tested on instruments that it never heard.
enum class PatchSet : uint8_t { kTrain, kTest, kAll };
PatchSet patch_set(std::string_view name);  // "train", "test", "all"; UsageError for another
std::string_view patch_set_name(PatchSet set);

struct Patch {
  int program;            // General MIDI, from 0; of the drum kits (bank 128) for drums and perc
  std::string_view name;  // "electric piano 1"
};

enum class Comping : uint8_t { kHeld, kStruck, kOffBeat, kArpeggio };
enum class BassLine : uint8_t { kRoots, kEighths, kRootFifth, kOctaves, kWalking, kSyncopated };

struct SongPlan {
  int style = 0;  // index in song_styles()
  Scale scale;
  double bpm = 120.0;
  std::vector<Chord> chords;  // one per bar
  bool sevenths = false;
  std::array<bool, kStemCount> present{};
  Patch drum_kit{}, perc_kit{}, bass{}, voice{};
  std::array<Patch, 2> harmony{};
  std::array<Comping, 2> comping{};
  BassLine bass_line = BassLine::kRoots;
  double loudness = 0.0;  // 0, or the drive of the saturation of drums, bass and harmonic
  double peak = 0.9;      // of the mix
  bool warm_sub = false;  // the sub is saturated

  const Style& metre() const { return song_styles()[static_cast<std::size_t>(style)]; }
  int bars() const { return static_cast<int>(chords.size()); }
  double beats() const { return static_cast<double>(bars() * metre().beats_per_bar); }
  double seconds(double beat) const { return beat * 60.0 / bpm; }
  bool has(std::string_view stem) const {
    return present[static_cast<std::size_t>(*stem_index(stem))];
  }
};

// The plan of song `song` of `seed`: a whole number of bars as near to `seconds` as there is.
// Without `all_stems` one song in six lacks one to three stems.
SongPlan plan_song(uint64_t seed, int64_t song, PatchSet patches, double seconds, bool all_stems);

}  // namespace stemfabric
