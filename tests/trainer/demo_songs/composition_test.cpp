// Plans and scores: what every song must keep to, over many songs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "runtime/core/check.h"
#include "trainer/demo_songs/scale.h"
#include "trainer/demo_songs/song_plan.h"
#include "trainer/demo_songs/song_score.h"

namespace stemfabric {
namespace {

using testing::ElementsAre;

constexpr uint64_t kSeed = 11;
constexpr int64_t kSongs = 400;

SongPlan full_plan(int64_t song) { return plan_song(kSeed, song, PatchSet::kAll, 20.0, true); }

const std::vector<Layer>& part(const Score& score, std::string_view stem) {
  return score.stems[static_cast<std::size_t>(*stem_index(stem))];
}

TEST(DemoSongScale, NamesChordsOfKnownKeys) {
  const Scale c_major{.tonic = 0, .mode = ScaleMode::kMajor};
  EXPECT_EQ(c_major.chord_name({.degree = 0}, false), "C");
  EXPECT_EQ(c_major.chord_name({.degree = 1}, true), "Dm7");
  EXPECT_EQ(c_major.chord_name({.degree = 3}, true), "Fmaj7");
  EXPECT_EQ(c_major.chord_name({.degree = 4}, true), "G7");
  EXPECT_EQ(c_major.chord_name({.degree = 6}, false), "Bdim");
  const Scale a_minor{.tonic = 9, .mode = ScaleMode::kMinor};
  EXPECT_EQ(a_minor.chord_name({.degree = 4}, false), "Em");
  EXPECT_EQ(a_minor.chord_name({.degree = 4, .raised_seventh = true}, true), "E7");
  const Scale d_dorian{.tonic = 2, .mode = ScaleMode::kDorian};
  EXPECT_EQ(d_dorian.chord_name({.degree = 3}, false), "G");
  const Scale f_lydian{.tonic = 5, .mode = ScaleMode::kLydian};
  EXPECT_EQ(f_lydian.chord_name({.degree = 1}, false), "G");
  const Scale e_phrygian{.tonic = 4, .mode = ScaleMode::kPhrygian};
  EXPECT_EQ(e_phrygian.chord_name({.degree = 1}, false), "F");
  const Scale g_mixolydian{.tonic = 7, .mode = ScaleMode::kMixolydian};
  EXPECT_EQ(g_mixolydian.chord_name({.degree = 6}, false), "F");
}

TEST(DemoSongScale, PlacesKeys) {
  const Scale a_minor{.tonic = 9, .mode = ScaleMode::kMinor};
  EXPECT_EQ(a_minor.key(7, {}), 21);
  EXPECT_EQ(a_minor.key(-1, {}), 7);  // the seventh below
  EXPECT_EQ(a_minor.key(6, {.degree = 4, .raised_seventh = true}), 20);
  EXPECT_THAT(voicing({0, 4, 7}, 60, 71), ElementsAre(60, 64, 67));
  EXPECT_THAT(voicing({7, 11, 2}, 60, 71), ElementsAre(62, 67, 71));
  EXPECT_EQ(nearest_key(0, 66, 50, 80), 60);  // the lower one of two
  EXPECT_EQ(nearest_key(0, 67, 50, 80), 72);
}

TEST(DemoSongPlan, CoversStylesKeysAndModes) {
  std::set<int> styles, tonics;
  std::set<ScaleMode> modes;
  std::set<std::string_view> metres;
  int complete = 0;
  for (int64_t song = 0; song < kSongs; ++song) {
    const SongPlan plan = plan_song(kSeed, song, PatchSet::kTrain, 20.0, false);
    styles.insert(plan.style);
    tonics.insert(plan.scale.tonic);
    modes.insert(plan.scale.mode);
    metres.insert(plan.metre().metre);
    EXPECT_GE(plan.bpm, plan.metre().least_bpm);
    EXPECT_LE(plan.bpm, plan.metre().most_bpm);
    EXPECT_NEAR(plan.seconds(plan.beats()), 20.0,
                0.5 * plan.seconds(plan.metre().beats_per_bar) + 1e-9);
    EXPECT_EQ(plan.chords.back().degree, 0);
    const auto stems = std::count(plan.present.begin(), plan.present.end(), true);
    EXPECT_GE(stems, 3);
    complete += stems == kStemCount ? 1 : 0;
  }
  EXPECT_EQ(styles.size(), song_styles().size());
  EXPECT_EQ(tonics.size(), 12u);
  EXPECT_EQ(modes.size(), static_cast<std::size_t>(kScaleModeCount));
  EXPECT_THAT(metres, ElementsAre("3/4", "4/4", "5/4", "6/8"));
  // 5/6 of them, within five standard deviations.
  EXPECT_NEAR(complete, kSongs * 5.0 / 6.0, 5.0 * std::sqrt(kSongs * 5.0 / 36.0));
}

TEST(DemoSongPlan, AllStemsAndShortSongs) {
  for (int64_t song = 0; song < 50; ++song) {
    const SongPlan plan = plan_song(kSeed, song, PatchSet::kTrain, 1.0, true);
    EXPECT_TRUE(std::all_of(plan.present.begin(), plan.present.end(), [](bool b) { return b; }));
    EXPECT_GE(plan.bars(), 1);
  }
}

TEST(DemoSongPlan, TrainAndTestShareNoInstrument) {
  std::map<PatchSet, std::map<std::string, std::set<int>>> programs;
  for (const PatchSet set : {PatchSet::kTrain, PatchSet::kTest, PatchSet::kAll}) {
    for (int64_t song = 0; song < kSongs; ++song) {
      const SongPlan plan = plan_song(kSeed, song, set, 20.0, false);
      auto& of = programs[set];
      of["kit"].insert({plan.drum_kit.program, plan.perc_kit.program});
      of["bass"].insert(plan.bass.program);
      of["voice"].insert(plan.voice.program);
      of["harmony"].insert({plan.harmony[0].program, plan.harmony[1].program});
    }
  }
  for (const auto& [kind, train] : programs[PatchSet::kTrain]) {
    const std::set<int>& test = programs[PatchSet::kTest][kind];
    std::set<int> all = train;
    all.insert(test.begin(), test.end());
    EXPECT_EQ(all.size(), train.size() + test.size()) << kind;
    EXPECT_EQ(all, programs[PatchSet::kAll][kind]) << kind;
  }
  EXPECT_EQ(patch_set("test"), PatchSet::kTest);
  EXPECT_THROW(patch_set("tests"), UsageError);
}

// Every note has a place in the song; no key of a layer sounds twice at once.
void expect_playable(const Layer& layer, const SongPlan& plan) {
  std::map<int, double> free_from;  // of each key
  double before = 0.0;
  for (const Note& note : layer.notes) {
    EXPECT_GE(note.start, before);
    EXPECT_LT(note.start, plan.beats());
    EXPECT_GT(note.length, 0.0);
    EXPECT_GE(note.velocity, 1);
    EXPECT_LE(note.velocity, 127);
    EXPECT_GE(note.start, free_from[note.key] - 1e-9);
    free_from[note.key] = note.start + note.length;
    before = note.start;
  }
}

void expect_in_key(const Layer& layer, const SongPlan& plan, int low, int high) {
  for (const Note& note : layer.notes) {
    EXPECT_GE(note.key, low);
    EXPECT_LE(note.key, high);
    const auto bar = static_cast<std::size_t>((note.start + 1e-6) / plan.metre().beats_per_bar);
    std::set<int> scale;
    for (int degree = 0; degree < 7; ++degree) {
      scale.insert(plan.scale.key(degree, plan.chords[bar]) % 12);
    }
    EXPECT_TRUE(scale.contains(note.key % 12)) << "key " << note.key << " in bar " << bar;
  }
}

TEST(DemoSongScore, EveryPartKeepsToItsRules) {
  for (int64_t song = 0; song < kSongs; ++song) {
    SCOPED_TRACE(song);
    const SongPlan plan = full_plan(song);
    const Score score = compose(kSeed, song, plan);
    for (const auto& layers : score.stems) {
      ASSERT_FALSE(layers.empty());
      for (const Layer& layer : layers) {
        EXPECT_FALSE(layer.notes.empty());
        expect_playable(layer, plan);
      }
    }
    expect_in_key(part(score, "vocals").front(), plan, 57, 76);
    expect_in_key(part(score, "bass").front(), plan, 36, 55);
    expect_in_key(part(score, "harmonic")[0], plan, 50, 69);
    expect_in_key(part(score, "harmonic")[1], plan, 57, 76);
    EXPECT_EQ(part(score, "vocals").front().notes.back().key % 12, plan.scale.tonic);
    const Layer& bass = part(score, "bass").front();
    const Layer& sub = part(score, "sub").front();
    ASSERT_EQ(bass.notes.size(), sub.notes.size());
    for (std::size_t i = 0; i < sub.notes.size(); ++i) {
      EXPECT_EQ(sub.notes[i].key, bass.notes[i].key - 12);
      EXPECT_EQ(sub.notes[i].start, bass.notes[i].start);
    }
    if (::testing::Test::HasFailure()) {
      return;
    }
  }
}

// A stem is absent because the plan says so, and taking one away leaves the others as they are.
TEST(DemoSongScore, PartsAreIndependent) {
  SongPlan plan = full_plan(3);
  const Score whole = compose(kSeed, 3, plan);
  plan.present[1] = plan.present[2] = false;
  const Score less = compose(kSeed, 3, plan);
  for (std::size_t s = 0; s < kStemCount; ++s) {
    ASSERT_EQ(less.stems[s].empty(), s == 1 || s == 2);
    for (std::size_t layer = 0; layer < less.stems[s].size(); ++layer) {
      const auto &a = whole.stems[s][layer].notes, &b = less.stems[s][layer].notes;
      EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin(), b.end(), [](auto& x, auto& y) {
        return x.start == y.start && x.key == y.key && x.velocity == y.velocity;
      }));
    }
  }
}

TEST(DemoSongScore, SongsDiffer) {
  std::set<std::vector<int>> melodies;
  for (int64_t song = 0; song < 50; ++song) {
    std::vector<int> keys;
    for (const Note& note : compose_melody(kSeed, song, full_plan(song)).notes) {
      keys.push_back(note.key);
    }
    melodies.insert(keys);
  }
  EXPECT_EQ(melodies.size(), 50u);
}

TEST(DemoSongScore, OverlapsEnd) {
  std::vector<Note> notes = {{.start = 1.0, .length = 2.0, .key = 60, .velocity = 1},
                             {.start = 0.0, .length = 4.0, .key = 60, .velocity = 2},
                             {.start = 0.5, .length = 4.0, .key = 61, .velocity = 3},
                             {.start = 1.0, .length = 1.0, .key = 60, .velocity = 4}};
  end_overlaps(notes);
  ASSERT_EQ(notes.size(), 3u);  // of two that begin together the second is left
  EXPECT_EQ(notes[0].velocity, 2);
  EXPECT_EQ(notes[0].length, 1.0);
  EXPECT_EQ(notes[1].velocity, 3);
  EXPECT_EQ(notes[1].length, 4.0);
  EXPECT_EQ(notes[2].velocity, 4);
}

}  // namespace
}  // namespace stemfabric
