#include "trainer/demo_songs/scale.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "trainer/snapshot/schema.h"

namespace stemfabric {
namespace {

struct ModeInfo {
  std::string_view name;
  std::array<int, 7> steps;  // semitones above the tonic
};

constexpr std::array<ModeInfo, kScaleModeCount> kModes = {{
    {"major", {0, 2, 4, 5, 7, 9, 11}},
    {"minor", {0, 2, 3, 5, 7, 8, 10}},
    {"dorian", {0, 2, 3, 5, 7, 9, 10}},
    {"phrygian", {0, 1, 3, 5, 7, 8, 10}},
    {"lydian", {0, 2, 4, 6, 7, 9, 11}},
    {"mixolydian", {0, 2, 4, 5, 7, 9, 10}},
}};

const ModeInfo& info(ScaleMode mode) { return kModes[static_cast<std::size_t>(mode)]; }

int modulo(int value, int n) { return (value % n + n) % n; }

}  // namespace

std::string_view mode_name(ScaleMode mode) { return info(mode).name; }

int Scale::key(int degree, const Chord& chord) const {
  const int step = modulo(degree, 7);
  const int octave = (degree - step) / 7;
  const int raised = chord.raised_seventh && step == 6 ? 1 : 0;
  return tonic + 12 * octave + info(mode).steps[static_cast<std::size_t>(step)] + raised;
}

std::vector<int> Scale::pitch_classes(const Chord& chord, bool seventh) const {
  std::vector<int> classes;
  for (int third = 0; third < (seventh ? 4 : 3); ++third) {
    classes.push_back(modulo(key(chord.degree + 2 * third, chord), 12));
  }
  return classes;
}

std::string Scale::chord_name(const Chord& chord, bool seventh) const {
  const int root = key(chord.degree, chord);
  const int third = key(chord.degree + 2, chord) - root;
  const int fifth = key(chord.degree + 4, chord) - root;
  const int top = key(chord.degree + 6, chord) - root;
  std::string name(kKeyNames[static_cast<std::size_t>(modulo(root, 12))]);
  if (third == 3) {
    name += fifth == 6 ? "dim" : "m";
  } else if (fifth == 8) {
    name += "aug";
  }
  if (seventh) {
    name += top == 11 ? "maj7" : "7";
  }
  return name;
}

std::vector<int> voicing(const std::vector<int>& pitch_classes, int low, int high) {
  std::vector<int> keys;
  for (const int pitch_class : pitch_classes) {
    keys.push_back(nearest_key(pitch_class, (low + high) / 2, low, high));
  }
  std::sort(keys.begin(), keys.end());
  return keys;
}

int nearest_key(int pitch_class, int to, int low, int high) {
  int best = -1;
  for (int key = low; key <= high; ++key) {
    if (modulo(key - pitch_class, 12) == 0 &&
        (best < 0 || std::abs(key - to) < std::abs(best - to))) {
      best = key;
    }
  }
  return best;
}

}  // namespace stemfabric
