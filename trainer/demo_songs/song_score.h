// The notes of a demo song, stem by stem.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "trainer/demo_songs/song_plan.h"
#include "trainer/stems.h"

namespace stemfabric {

struct Note {
  double start = 0.0;   // beats from the start of the song
  double length = 0.0;  // beats
  int key = 0;          // MIDI: 60 = middle C; of a drum kit: which drum
  int velocity = 0;     // 1 … 127
};

enum class Sound : uint8_t { kProgram, kDrumKit, kSine };
struct Layer {
  Sound sound = Sound::kProgram;
  int program = 0;  // of the sine: none
  int pan = 64;     // 0 left … 127 right
  std::vector<Note> notes;
};

// No two notes of a layer with the same key sound at once. Stems that the plan lacks have no layer.
struct Score {
  std::array<std::vector<Layer>, kStemCount> stems;  // by stem_index()
};

Score compose(uint64_t seed, int64_t song, const SongPlan& plan);

// The parts, always composed: which of them are kept is the plan's.
Layer compose_drums(uint64_t seed, int64_t song, const SongPlan& plan);
Layer compose_perc(uint64_t seed, int64_t song, const SongPlan& plan);
Layer compose_bass(uint64_t seed, int64_t song, const SongPlan& plan);
std::vector<Layer> compose_harmony(uint64_t seed, int64_t song, const SongPlan& plan);
Layer compose_melody(uint64_t seed, int64_t song, const SongPlan& plan);
Layer sub_under(const Layer& bass);  // an octave below, as a sine

// Sorts by start; shortens notes that reach into the next one of the same key, drops those of which
// nothing is left.
void end_overlaps(std::vector<Note>& notes);

}  // namespace stemfabric
