#include "trainer/demo_songs/song_truth.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "trainer/snapshot/schema.h"
#include "trainer/version.h"

namespace stemfabric {
namespace {

using Json = nlohmann::ordered_json;

double milliseconds_exact(double seconds) { return std::round(seconds * 1000.0) / 1000.0; }

// The nominal start of each note; chords have one.
Json onsets(const std::vector<Layer>& layers, const SongPlan& plan) {
  std::set<double> times;
  for (const Layer& layer : layers) {
    for (const Note& note : layer.notes) {
      times.insert(milliseconds_exact(plan.seconds(note.start)));
    }
  }
  return Json(times);
}

Json instruments(std::string_view stem, const SongPlan& plan) {
  const auto patch = [](const Patch& p) { return Json{{"program", p.program}, {"name", p.name}}; };
  if (stem == "vocals") {
    return Json::array({patch(plan.voice)});
  }
  if (stem == "drums") {
    return Json::array({patch(plan.drum_kit)});
  }
  if (stem == "perc") {
    return Json::array({patch(plan.perc_kit)});
  }
  if (stem == "bass") {
    return Json::array({patch(plan.bass)});
  }
  if (stem == "harmonic") {
    return Json::array({patch(plan.harmony[0]), patch(plan.harmony[1])});
  }
  return Json::array({{{"name", "sine"}}});
}

Json chords(const SongPlan& plan) {
  Json list = Json::array();
  for (int bar = 0; bar < plan.bars(); ++bar) {
    const double beat = static_cast<double>(bar * plan.metre().beats_per_bar);
    list.push_back({{"time", milliseconds_exact(plan.seconds(beat))},
                    {"name", plan.scale.chord_name(plan.chords[static_cast<std::size_t>(bar)],
                                                   plan.sevenths)}});
  }
  return list;
}

}  // namespace

Json song_made_with(const DemoSongsOptions& options, int64_t song) {
  return {{"version", version()},
          {"seed", options.seed},
          {"song", song},
          {"duration", options.duration},
          {"sample_rate", options.sample_rate},
          {"patches", patch_set_name(options.patches)},
          {"all_stems", options.all_stems},
          {"sound_font", options.sound_font.filename().string()},
          {"sound_font_bytes", std::filesystem::file_size(options.sound_font)}};
}

Json song_truth(const DemoSongsOptions& options, int64_t song, const SongPlan& plan,
                const Score& score, int64_t frames) {
  Json stems = Json::object();
  for (std::size_t s = 0; s < kStemCount; ++s) {
    if (plan.present[s]) {
      stems[std::string(kStemNames[s])] = {{"instruments", instruments(kStemNames[s], plan)},
                                           {"onsets", onsets(score.stems[s], plan)}};
    }
  }
  return {{"key", kKeyNames[static_cast<std::size_t>(plan.scale.tonic)]},
          {"mode", mode_name(plan.scale.mode)},
          {"bpm", plan.bpm},
          {"metre", plan.metre().metre},
          {"beats_per_bar", plan.metre().beats_per_bar},
          {"bars", plan.bars()},
          {"style", plan.metre().name},
          {"frames", frames},
          {"peak", plan.peak},
          {"loudness", plan.loudness},
          {"chords", chords(plan)},
          {"stems", std::move(stems)},
          {"made_with", song_made_with(options, song)}};
}

}  // namespace stemfabric
