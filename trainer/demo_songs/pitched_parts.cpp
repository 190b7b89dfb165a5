// Bass, harmony and melody.
#include <algorithm>
#include <array>
#include <cmath>

#include "trainer/demo_songs/song_draws.h"
#include "trainer/demo_songs/song_score.h"

namespace stemfabric {
namespace {

// C2 … G3: the sub an octave below is then 33 … 98 Hz and never shares the bass's pitch.
constexpr int kBassLow = 36, kBassHigh = 55;
constexpr int kMelodyLow = 57, kMelodyHigh = 76;

int wobble(SongDraws& draws, int velocity) {
  return std::clamp(velocity + draws.below(13) - 6, 1, 127);
}

double bar_start(const SongPlan& plan, int bar) {
  return static_cast<double>(bar * plan.metre().beats_per_bar);
}

// Steps of a beat that off-beat notes fall on: half a beat, or two thirds where beats are in three.
double off_beat(const SongPlan& plan) { return plan.metre().steps_per_beat == 3 ? 2.0 / 3.0 : 0.5; }

class BassBar {
 public:
  BassBar(SongDraws& draws, const SongPlan& plan, int bar, Layer& layer)
      : draws_(draws), plan_(plan), bar_(bar), layer_(layer), chord_(plan.chords[bar_index()]) {
    root_ = nearest_key(plan.scale.key(chord_.degree, chord_), 40, kBassLow, kBassHigh);
    fifth_ = nearest_key(plan.scale.key(chord_.degree + 4, chord_), root_ + 5, kBassLow, kBassHigh);
    octave_ = root_ + 12 <= kBassHigh ? root_ + 12 : root_;
  }

  void play(BassLine line) {
    const int beats = plan_.metre().beats_per_bar;
    switch (line) {
      case BassLine::kRoots:
        note(0.0, beats, root_);
        return;
      case BassLine::kEighths:
        return eighths(root_, root_);
      case BassLine::kOctaves:
        return eighths(root_, octave_);
      case BassLine::kRootFifth:
        note(0.0, beats - beats / 2, root_);
        if (beats > 1) {
          note(beats - beats / 2, beats / 2, fifth_);
        }
        return;
      case BassLine::kWalking:
        return walk();
      case BassLine::kSyncopated:
        return syncopated();
    }
  }

 private:
  std::size_t bar_index() const { return static_cast<std::size_t>(bar_); }

  void note(double beat, double length, int key) {
    layer_.notes.push_back({.start = bar_start(plan_, bar_) + beat,
                            .length = 0.94 * length,
                            .key = key,
                            .velocity = wobble(draws_, beat == 0.0 ? 104 : 94)});
  }
  void eighths(int on, int off) {
    const double half = off_beat(plan_);
    for (int beat = 0; beat < plan_.metre().beats_per_bar; ++beat) {
      note(beat, half, on);
      note(beat + half, 1.0 - half, off);
    }
  }
  void walk() {
    static constexpr int kDegrees[] = {0, 2, 4, 5, 4, 2};  // above the root
    for (int beat = 0; beat < plan_.metre().beats_per_bar; ++beat) {
      const int degree = chord_.degree + kDegrees[beat % 6];
      const int to = beat == 0 ? root_ : layer_.notes.back().key + 2;
      note(beat, 1.0, nearest_key(plan_.scale.key(degree, chord_), to, kBassLow, kBassHigh));
    }
  }
  void syncopated() {
    const double half = off_beat(plan_);
    note(0.0, 1.0 + half, root_);
    for (int beat = 1; beat < plan_.metre().beats_per_bar; ++beat) {
      if (draws_.chance(0.75)) {
        note(beat + half, 1.0 - half, draws_.chance(0.3) ? fifth_ : root_);
      }
    }
  }

  SongDraws& draws_;
  const SongPlan& plan_;
  int bar_;
  Layer& layer_;
  Chord chord_;
  int root_ = 0, fifth_ = 0, octave_ = 0;
};

// A chord instrument in one bar.
void comp(SongDraws& draws, const SongPlan& plan, int bar, Comping comping,
          const std::vector<int>& keys, int velocity, std::vector<Note>& notes) {
  const int beats = plan.metre().beats_per_bar;
  const double half = off_beat(plan);
  const auto chord = [&](double beat, double length) {
    double strum = 0.0;  // low strings first
    for (const int key : keys) {
      notes.push_back({.start = bar_start(plan, bar) + beat + strum,
                       .length = 0.97 * length - strum,
                       .key = key,
                       .velocity = wobble(draws, velocity)});
      strum += plan.bpm / 60.0 * 0.006;
    }
  };
  switch (comping) {
    case Comping::kHeld:
      chord(0.0, beats);
      return;
    case Comping::kStruck:
      for (int beat = 0; beat < beats; ++beat) {
        chord(beat, draws.chance(0.8) ? 0.9 : half);
      }
      return;
    case Comping::kOffBeat:
      for (int beat = 0; beat < beats; ++beat) {
        chord(beat + half, 1.0 - half);
      }
      return;
    case Comping::kArpeggio:
      for (int i = 0; i < 2 * beats; ++i) {
        const double at = i / 2 + (i % 2 == 0 ? 0.0 : half);
        notes.push_back({.start = bar_start(plan, bar) + at,
                         .length = 1.0,
                         .key = keys[static_cast<std::size_t>(i) % keys.size()],
                         .velocity = wobble(draws, velocity)});
      }
      return;
  }
}

// Lengths of melody notes in beats, tiled over a bar; negative ones are rests.
constexpr std::array<std::array<double, 6>, 6> kStraightRhythms = {{
    {1, 1, 2, 0, 0, 0},
    {0.5, 0.5, 1, 1, 1, 0},
    {1.5, 0.5, 1, 1, 0, 0},
    {-0.5, 0.5, 0.5, 0.5, 2, 0},
    {2, 1, 1, 0, 0, 0},
    {0.5, 0.5, 0.5, 0.5, 1, 1},
}};
constexpr std::array<std::array<double, 6>, 4> kTernaryRhythms = {{
    {1, 1, 0, 0, 0, 0},
    {2.0 / 3, 1.0 / 3, 1, 0, 0, 0},
    {1.0 / 3, 1.0 / 3, 1.0 / 3, 1, 0, 0},
    {2, 0, 0, 0, 0, 0},
}};

class Melody {
 public:
  Melody(SongDraws& draws, const SongPlan& plan, std::vector<Note>& notes)
      : draws_(draws), plan_(plan), notes_(notes) {
    degree_ = degree_near(66, plan.chords.front());
  }

  void bar(int bar) {
    const Chord& chord = plan_.chords[static_cast<std::size_t>(bar)];
    if (bar + 1 == plan_.bars()) {
      end(bar, chord);
    } else if (bar % 4 != 3 || !draws_.chance(0.35)) {
      phrase(bar, chord);
    }
  }

 private:
  // The chord degree whose key is nearest to `key`.
  int degree_near(int key, const Chord& chord) const {
    int best = 0, best_distance = 1000;
    for (int degree = 0; degree < 77; ++degree) {
      const int above = ((degree - chord.degree) % 7 + 7) % 7;
      const int distance = std::abs(plan_.scale.key(degree, chord) - key);
      if ((above == 0 || above == 2 || above == 4) && distance < best_distance) {
        best = degree;
        best_distance = distance;
      }
    }
    return best;
  }

  void note(int bar, double beat, double length, int key) {
    notes_.push_back({.start = bar_start(plan_, bar) + beat,
                      .length = 0.95 * length,
                      .key = key,
                      .velocity = wobble(draws_, beat == 0.0 ? 104 : 96)});
  }

  int step_to(const Chord& chord) {
    static constexpr int kSteps[] = {-2, -1, -1, 0, 1, 1, 2};
    degree_ += draws_.pick(kSteps);
    int key = plan_.scale.key(degree_, chord);
    if (key < kMelodyLow || key > kMelodyHigh) {
      degree_ = degree_near(66, chord);
      key = plan_.scale.key(degree_, chord);
    }
    return key;
  }

  void phrase(int bar, const Chord& chord) {
    const int beats = plan_.metre().beats_per_bar;
    const auto& rhythm = plan_.metre().steps_per_beat == 3 ? draws_.pick(kTernaryRhythms)
                                                           : draws_.pick(kStraightRhythms);
    // Chord tones are at most five semitones apart: the nearest is in the range.
    const int last = plan_.scale.key(degree_, chord);
    degree_ = degree_near(std::clamp(last, kMelodyLow + 3, kMelodyHigh - 3), chord);
    int key = plan_.scale.key(degree_, chord);
    double beat = 0.0;
    for (std::size_t i = 0; beat < beats - 1e-9; i = (i + 1) % rhythm.size()) {
      const double length = std::min(std::abs(rhythm[i]), beats - beat);
      if (length == 0.0) {
        continue;
      }
      if (rhythm[i] > 0.0 && !draws_.chance(0.08)) {
        note(bar, beat, length, key);
      }
      beat += length;
      key = step_to(chord);
    }
  }

  void end(int bar, const Chord& chord) {
    note(bar, 0.0, plan_.metre().beats_per_bar,
         nearest_key(plan_.scale.tonic, 66, kMelodyLow, kMelodyHigh));
    degree_ = chord.degree;
  }

  SongDraws& draws_;
  const SongPlan& plan_;
  std::vector<Note>& notes_;
  int degree_ = 0;
};

}  // namespace

Layer compose_bass(uint64_t seed, int64_t song, const SongPlan& plan) {
  SongDraws draws(seed, song, SongPart::kBass);
  Layer layer{.program = plan.bass.program};
  for (int bar = 0; bar < plan.bars(); ++bar) {
    const bool last = bar + 1 == plan.bars();
    BassBar(draws, plan, bar, layer).play(last ? BassLine::kRoots : plan.bass_line);
  }
  end_overlaps(layer.notes);
  return layer;
}

std::vector<Layer> compose_harmony(uint64_t seed, int64_t song, const SongPlan& plan) {
  SongDraws draws(seed, song, SongPart::kHarmonic);
  struct Range {
    int low, high, pan, velocity;
  };
  static constexpr std::array<Range, 2> kRanges = {{{50, 69, 46, 88}, {57, 76, 82, 76}}};
  std::vector<Layer> layers;
  for (std::size_t i = 0; i < kRanges.size(); ++i) {
    const Range& range = kRanges[i];
    Layer layer{.program = plan.harmony[i].program, .pan = range.pan};
    for (int bar = 0; bar < plan.bars(); ++bar) {
      const Chord& chord = plan.chords[static_cast<std::size_t>(bar)];
      const auto keys =
          voicing(plan.scale.pitch_classes(chord, plan.sevenths), range.low, range.high);
      const bool last = bar + 1 == plan.bars();
      comp(draws, plan, bar, last ? Comping::kHeld : plan.comping[i], keys, range.velocity,
           layer.notes);
    }
    end_overlaps(layer.notes);
    layers.push_back(std::move(layer));
  }
  return layers;
}

Layer compose_melody(uint64_t seed, int64_t song, const SongPlan& plan) {
  SongDraws draws(seed, song, SongPart::kVocals);
  Layer layer{.program = plan.voice.program};
  Melody melody(draws, plan, layer.notes);
  for (int bar = 0; bar < plan.bars(); ++bar) {
    melody.bar(bar);
  }
  end_overlaps(layer.notes);
  return layer;
}

}  // namespace stemfabric
