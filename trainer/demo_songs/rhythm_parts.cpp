// Drums and percussion.
#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "trainer/demo_songs/song_draws.h"
#include "trainer/demo_songs/song_score.h"

namespace stemfabric {
namespace {

// General MIDI's percussion keys.
enum Drum : int {
  kKick = 36,
  kRim = 37,
  kSnare = 38,
  kClap = 39,
  kClosedHat = 42,
  kPedalHat = 44,
  kOpenHat = 46,
  kCrash = 49,
  kRide = 51,
  kTambourine = 54,
  kCowbell = 56,
  kHighConga = 63,
  kLowConga = 64,
  kMaracas = 70,
  kClaves = 75,
  kShaker = 82,
};
constexpr int kToms[] = {48, 45, 43, 41};

// One drum over one bar, a character per step: X loud, x as written, o soft, ? now and then.
struct Row {
  int key = 0;
  std::string_view hits;
};
using Pattern = std::array<Row, 4>;

// In the order of song_styles().
constexpr std::array<Pattern, kStyleCount> kDrumPatterns = {{
    // rock
    {{{kKick, "X.....?.x.x....."},
      {kSnare, "....X.......X..?"},
      {kClosedHat, "x.o.x.o.x.o.x.o."},
      {kOpenHat, "..............?."}}},
    // punk
    {{{kKick, "X.x...?.X.x....."}, {kSnare, "....X.......X..."}, {kOpenHat, "x.x.x.x.x.x.x.x."}}},
    // four on the floor
    {{{kKick, "X...X...X...X..."},
      {kClap, "....x.......x..."},
      {kOpenHat, "..x...x...x...x."},
      {kClosedHat, "o.?oo.?oo.?oo.?o"}}},
    // funk
    {{{kKick, "X.x....?..x..x.."},
      {kSnare, "....X..o.o..X..o"},
      {kClosedHat, "xoxoxoxoxoxoxoxo"},
      {kOpenHat, "..............?."}}},
    // trap
    {{{kKick, "X......x..x....."},
      {kClap, "....X.......X..."},
      {kClosedHat, "x.x.x.xxx.x.x?xx"},
      {kSnare, "..............?."}}},
    // ballad
    {{{kKick, "X.......x.?....."},
      {kRim, "....x.......x..."},
      {kClosedHat, "x.o.x.o.x.o.x.o."},
      {kRide, "?..............."}}},
    // drum and bass
    {{{kKick, "X.........x....."},
      {kSnare, "....X..o.o..X..?"},
      {kClosedHat, "x.x.x.x.x.x.x.x."},
      {kRide, "?.......?......."}}},
    // bossa nova
    {{{kKick, "X..ox..ox..ox..o"},
      {kRim, "x..x..x...x..x.."},
      {kClosedHat, "oooooooooooooooo"},
      {kPedalHat, "....x.......x..."}}},
    // swing: three steps a beat
    {{{kRide, "x..x.xx..x.x"},
      {kPedalHat, "...x.....x.."},
      {kKick, "o.....o....."},
      {kSnare, "..?..?..?..?"}}},
    // waltz
    {{{kKick, "X..........."},
      {kSnare, "....o...o..."},
      {kClosedHat, "x...x.o.x.o."},
      {kRide, "?..........."}}},
    // five
    {{{kKick, "X.....x.....X......."},
      {kSnare, "....x...X.......X..?"},
      {kRide, "x.o.x.o.x.o.x.o.x.o."}}},
    // six-eight: three steps a beat
    {{{kKick, "X....o"}, {kSnare, "...X.."}, {kClosedHat, "xooxoo"}, {kOpenHat, ".....?"}}},
}};

int hit_velocity(char hit) {
  switch (hit) {
    case 'X':
      return 112;
    case 'x':
      return 92;
    default:
      return 62;
  }
}

// Places hits as a player would: a little early or late, a little louder or softer.
class Kit {
 public:
  Kit(SongDraws& draws, const SongPlan& plan, std::vector<Note>& notes)
      : draws_(draws), plan_(plan), notes_(notes) {}

  void hit(int bar, double step, int key, int velocity) {
    const Style& style = plan_.metre();
    const double beat = bar * style.beats_per_bar + step / style.steps_per_beat;
    const double early_or_late = draws_.between(-0.008, 0.008);
    const int louder_or_softer = draws_.below(19) - 9;
    notes_.push_back({.start = std::max(0.0, beat + early_or_late),
                      .length = 0.24,
                      .key = key,
                      .velocity = std::clamp(velocity + louder_or_softer, 30, 122)});
  }
  void row(int bar, const Row& row, double from_step, double to_step) {
    for (std::size_t step = 0; step < row.hits.size(); ++step) {
      const char hit = row.hits[step];
      const auto at = static_cast<double>(step);
      if (at >= from_step && at < to_step && hit != '.' && (hit != '?' || draws_.chance(0.3))) {
        this->hit(bar, at, row.key, hit_velocity(hit));
      }
    }
  }

 private:
  SongDraws& draws_;
  const SongPlan& plan_;
  std::vector<Note>& notes_;
};

int steps_per_bar(const SongPlan& plan) {
  return plan.metre().beats_per_bar * plan.metre().steps_per_beat;
}

// Snare and toms over the last beat of a bar.
void fill(Kit& kit, SongDraws& draws, const SongPlan& plan, int bar) {
  const int steps = plan.metre().steps_per_beat;
  const int first = steps_per_bar(plan) - steps;
  for (int step = 0; step < steps; ++step) {
    const int key = draws.chance(0.3) ? int{kSnare} : kToms[static_cast<std::size_t>(step) % 4];
    kit.hit(bar, first + step, key, 84 + 6 * step);
  }
}

// k hits spread as evenly as can be over n steps (Toussaint, "The Euclidean algorithm generates
// traditional musical rhythms", BRIDGES 2005), turned by `turn`.
bool euclidean_hit(int step, int hits, int steps, int turn) {
  return (step + turn) % steps * hits % steps < hits;
}

struct Percussion {
  int key;
  int velocity;
  int hits_per_bar_of_16;  // of the Euclidean rhythm
};
constexpr Percussion kPercussion[] = {
    {kTambourine, 74, 4}, {kCowbell, 70, 5}, {kMaracas, 70, 8},
    {kClaves, 82, 5},     {kShaker, 66, 16}, {kLowConga, 92, 6},
};

}  // namespace

Layer compose_drums(uint64_t seed, int64_t song, const SongPlan& plan) {
  SongDraws draws(seed, song, SongPart::kDrums);
  Layer layer{.sound = Sound::kDrumKit, .program = plan.drum_kit.program};
  Kit kit(draws, plan, layer.notes);
  const Pattern& pattern = kDrumPatterns[static_cast<std::size_t>(plan.style)];
  const int steps = steps_per_bar(plan);
  const int phrase = draws.chance(0.5) ? 4 : 8;
  for (int bar = 0; bar < plan.bars(); ++bar) {
    const bool filled = (bar + 1) % phrase == 0 && bar + 1 < plan.bars() && draws.chance(0.7);
    const double until = filled ? steps - plan.metre().steps_per_beat : steps;
    for (const Row& row : pattern) {
      kit.row(bar, row, 0.0, until);
    }
    if (filled) {
      fill(kit, draws, plan, bar);
    }
    if (bar == 0 || bar == plan.bars() / 2) {
      kit.hit(bar, 0.0, kCrash, 100);
    }
  }
  end_overlaps(layer.notes);
  return layer;
}

Layer compose_perc(uint64_t seed, int64_t song, const SongPlan& plan) {
  SongDraws draws(seed, song, SongPart::kPerc);
  Layer layer{.sound = Sound::kDrumKit, .program = plan.perc_kit.program};
  Kit kit(draws, plan, layer.notes);
  const int steps = steps_per_bar(plan);
  const int instruments = 1 + draws.below(3);
  const int first = draws.below(static_cast<int>(std::size(kPercussion)));
  for (int i = 0; i < instruments; ++i) {
    const Percussion& drum =
        kPercussion[static_cast<std::size_t>(first + i) % std::size(kPercussion)];
    const int hits =
        std::max(1, static_cast<int>(std::lround(drum.hits_per_bar_of_16 * steps / 16.0)));
    const int turn = drum.key == kTambourine ? plan.metre().steps_per_beat : draws.below(steps);
    const int pause = draws.chance(0.4) ? 4 : 0;  // rests in every fourth bar
    for (int bar = 0; bar < plan.bars(); ++bar) {
      if (pause != 0 && bar % pause == pause - 1) {
        continue;
      }
      for (int step = 0; step < steps; ++step) {
        if (euclidean_hit(step, hits, steps, turn)) {
          const bool high = drum.key == kLowConga && draws.chance(0.5);
          const int accent = step % plan.metre().steps_per_beat == 0 ? 8 : 0;
          kit.hit(bar, step, high ? int{kHighConga} : drum.key, drum.velocity + accent);
        }
      }
    }
  }
  end_overlaps(layer.notes);
  return layer;
}

}  // namespace stemfabric
