#include "trainer/demo_songs/song_plan.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "runtime/core/check.h"
#include "trainer/demo_songs/song_draws.h"

namespace stemfabric {
namespace {

// Instruments of one kind: the first `train` of them, then those of the test set.
struct PatchList {
  std::span<const Patch> patches;
  std::size_t train;

  std::span<const Patch> of(PatchSet set) const {
    switch (set) {
      case PatchSet::kTrain:
        return patches.first(train);
      case PatchSet::kTest:
        return patches.subspan(train);
      case PatchSet::kAll:
        break;
    }
    return patches;
  }
};

constexpr Patch kVoices[] = {{52, "choir aahs"},
                             {54, "synth voice"},
                             {85, "lead voice"},
                             // test
                             {53, "voice oohs"}};
constexpr Patch kBasses[] = {{32, "acoustic bass"},
                             {33, "finger bass"},
                             {34, "pick bass"},
                             {38, "synth bass 1"},
                             {39, "synth bass 2"},
                             // test
                             {35, "fretless bass"},
                             {36, "slap bass 1"}};
// Struck and plucked first, sustained second: a song has one of each.
constexpr Patch kPlucked[] = {{0, "acoustic grand piano"},
                              {1, "bright piano"},
                              {4, "electric piano 1"},
                              {24, "nylon guitar"},
                              {25, "steel guitar"},
                              {26, "jazz guitar"},
                              {6, "harpsichord"},
                              {11, "vibraphone"},
                              // test
                              {2, "electric grand piano"},
                              {5, "electric piano 2"},
                              {27, "clean guitar"},
                              {46, "harp"}};
constexpr Patch kSustained[] = {{48, "strings 1"},
                                {49, "strings 2"},
                                {89, "warm pad"},
                                {16, "drawbar organ"},
                                {21, "accordion"},
                                {80, "square lead"},
                                {30, "distortion guitar"},
                                {61, "brass section"},
                                // test
                                {50, "synth strings 1"},
                                {90, "polysynth pad"},
                                {81, "saw lead"},
                                {29, "overdriven guitar"},
                                {18, "rock organ"}};
constexpr Patch kDrumKits[] = {{0, "standard kit"},
                               {8, "room kit"},
                               {25, "808 kit"},
                               {32, "jazz kit"},
                               // test
                               {16, "power kit"},
                               {24, "electronic kit"}};
constexpr PatchList kVoiceList{kVoices, 3};
constexpr PatchList kBassList{kBasses, 5};
constexpr PatchList kPluckedList{kPlucked, 8};
constexpr PatchList kSustainedList{kSustained, 8};
constexpr PatchList kDrumKitList{kDrumKits, 4};

// Degrees of one chord per bar; the last bar of a song is its tonic whatever the loop says.
struct Progression {
  ScaleMode mode;
  std::span<const int> degrees;
};
constexpr int kMajor1[] = {0, 4, 5, 3}, kMajor2[] = {0, 5, 3, 4}, kMajor3[] = {0, 3, 0, 4};
constexpr int kMajor4[] = {0, 5, 1, 4}, kMajor5[] = {0, 2, 3, 4}, kMajor6[] = {0, 3, 4};
constexpr int kMinor1[] = {0, 5, 2, 6}, kMinor2[] = {0, 3, 4, 0}, kMinor3[] = {0, 6, 5, 4};
constexpr int kMinor4[] = {0, 5, 3, 4}, kMinor5[] = {0, 3, 0, 4};
constexpr int kDorian1[] = {0, 3, 0, 3, 0, 6}, kDorian2[] = {0, 6, 3, 0};
constexpr int kPhrygian1[] = {0, 1, 0, 6}, kPhrygian2[] = {0, 1, 2, 1};
constexpr int kLydian1[] = {0, 1, 0, 4}, kLydian2[] = {0, 1, 4, 0};
constexpr int kMixolydian1[] = {0, 6, 3, 0}, kMixolydian2[] = {0, 3, 6, 0};
constexpr Progression kProgressions[] = {
    {ScaleMode::kMajor, kMajor1},           {ScaleMode::kMajor, kMajor2},
    {ScaleMode::kMajor, kMajor3},           {ScaleMode::kMajor, kMajor4},
    {ScaleMode::kMajor, kMajor5},           {ScaleMode::kMajor, kMajor6},
    {ScaleMode::kMinor, kMinor1},           {ScaleMode::kMinor, kMinor2},
    {ScaleMode::kMinor, kMinor3},           {ScaleMode::kMinor, kMinor4},
    {ScaleMode::kMinor, kMinor5},           {ScaleMode::kDorian, kDorian1},
    {ScaleMode::kDorian, kDorian2},         {ScaleMode::kPhrygian, kPhrygian1},
    {ScaleMode::kPhrygian, kPhrygian2},     {ScaleMode::kLydian, kLydian1},
    {ScaleMode::kLydian, kLydian2},         {ScaleMode::kMixolydian, kMixolydian1},
    {ScaleMode::kMixolydian, kMixolydian2},
};

ScaleMode draw_mode(SongDraws& draws) {
  const double u = draws.uniform();
  if (u < 0.42) {
    return ScaleMode::kMajor;
  }
  if (u < 0.76) {
    return ScaleMode::kMinor;
  }
  static constexpr ScaleMode kOthers[] = {ScaleMode::kDorian, ScaleMode::kPhrygian,
                                          ScaleMode::kLydian, ScaleMode::kMixolydian};
  return draws.pick(kOthers);
}

std::vector<Chord> draw_chords(SongDraws& draws, ScaleMode mode, int bars) {
  std::vector<Progression> fitting;
  std::copy_if(std::begin(kProgressions), std::end(kProgressions), std::back_inserter(fitting),
               [&](const Progression& p) { return p.mode == mode; });
  const Progression& loop = draws.pick(fitting);
  const bool harmonic_minor = mode == ScaleMode::kMinor && draws.chance(0.6);
  std::vector<Chord> chords(static_cast<std::size_t>(bars));
  for (std::size_t bar = 0; bar + 1 < chords.size(); ++bar) {
    const int degree = loop.degrees[bar % loop.degrees.size()];
    chords[bar] = {.degree = degree, .raised_seventh = harmonic_minor && degree == 4};
  }
  return chords;
}

void draw_instruments(SongDraws& draws, PatchSet patches, SongPlan& plan) {
  plan.drum_kit = draws.pick(kDrumKitList.of(patches));
  plan.perc_kit = draws.pick(kDrumKitList.of(patches));
  plan.bass = draws.pick(kBassList.of(patches));
  plan.voice = draws.pick(kVoiceList.of(patches));
  plan.harmony = {draws.pick(kPluckedList.of(patches)), draws.pick(kSustainedList.of(patches))};
  static constexpr Comping kPluckedComping[] = {Comping::kHeld, Comping::kStruck, Comping::kOffBeat,
                                                Comping::kArpeggio};
  plan.comping = {draws.pick(kPluckedComping),
                  draws.chance(0.75) ? Comping::kHeld : Comping::kStruck};
  static constexpr BassLine kLines[] = {BassLine::kRoots,     BassLine::kEighths,
                                        BassLine::kRootFifth, BassLine::kOctaves,
                                        BassLine::kWalking,   BassLine::kSyncopated};
  plan.bass_line = draws.pick(kLines);
}

// One song in six lacks one to three stems; at least two remain with three gone.
void draw_missing(SongDraws& draws, SongPlan& plan) {
  if (!draws.chance(1.0 / 6.0)) {
    return;
  }
  const int missing = 1 + draws.below(3);
  for (int i = 0; i < missing; ++i) {
    plan.present[static_cast<std::size_t>(draws.below(kStemCount))] = false;
  }
}

void draw_levels(SongDraws& draws, SongPlan& plan) {
  const bool loud = draws.chance(0.25);
  plan.loudness = loud ? draws.between(1.6, 2.8) : 0.0;
  const bool quiet = !loud && draws.chance(0.2);
  plan.peak = loud ? 0.98 : quiet ? draws.between(0.3, 0.6) : draws.between(0.6, 0.97);
  plan.warm_sub = draws.chance(0.3);
}

}  // namespace

const std::array<Style, kStyleCount>& song_styles() {
  static constexpr std::array<Style, kStyleCount> kStyles = {{
      {"rock", "4/4", 4, 4, 96, 152},
      {"punk", "4/4", 4, 4, 150, 180},
      {"four on the floor", "4/4", 4, 4, 112, 136},
      {"funk", "4/4", 4, 4, 88, 116},
      {"trap", "4/4", 4, 4, 62, 84},
      {"ballad", "4/4", 4, 4, 60, 88},
      {"drum and bass", "4/4", 4, 4, 160, 180},
      {"bossa nova", "4/4", 4, 4, 100, 140},
      {"swing", "4/4", 4, 3, 90, 170},
      {"waltz", "3/4", 3, 4, 84, 176},
      {"five", "5/4", 5, 4, 100, 160},
      {"six-eight", "6/8", 2, 3, 60, 100},
  }};
  return kStyles;
}

PatchSet patch_set(std::string_view name) {
  for (const PatchSet set : {PatchSet::kTrain, PatchSet::kTest, PatchSet::kAll}) {
    if (name == patch_set_name(set)) {
      return set;
    }
  }
  throw UsageError("instruments '{}' are not known; there are train, test and all", name);
}

std::string_view patch_set_name(PatchSet set) {
  switch (set) {
    case PatchSet::kTrain:
      return "train";
    case PatchSet::kTest:
      return "test";
    case PatchSet::kAll:
      break;
  }
  return "all";
}

SongPlan plan_song(uint64_t seed, int64_t song, PatchSet patches, double seconds, bool all_stems) {
  SongDraws draws(seed, song, SongPart::kPlan);
  SongPlan plan;
  plan.style = draws.below(kStyleCount);
  const Style& style = plan.metre();
  plan.bpm = style.least_bpm + draws.below(style.most_bpm - style.least_bpm + 1);
  plan.scale = {.tonic = draws.below(12), .mode = draw_mode(draws)};
  const double bar_seconds = plan.seconds(style.beats_per_bar);
  const int bars = std::max(1, static_cast<int>(std::lround(seconds / bar_seconds)));
  plan.chords = draw_chords(draws, plan.scale.mode, bars);
  plan.sevenths = draws.chance(0.35);
  draw_instruments(draws, patches, plan);
  draw_levels(draws, plan);
  plan.present.fill(true);
  if (!all_stems) {
    draw_missing(draws, plan);
  }
  return plan;
}

}  // namespace stemfabric
