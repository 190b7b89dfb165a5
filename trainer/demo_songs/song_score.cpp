#include "trainer/demo_songs/song_score.h"

#include <algorithm>
#include <map>
#include <utility>

namespace stemfabric {

Score compose(uint64_t seed, int64_t song, const SongPlan& plan) {
  const Layer bass = compose_bass(seed, song, plan);
  std::array<std::vector<Layer>, kStemCount> parts;
  const auto part = [&](std::string_view stem) -> std::vector<Layer>& {
    return parts[static_cast<std::size_t>(*stem_index(stem))];
  };
  part("vocals") = {compose_melody(seed, song, plan)};
  part("drums") = {compose_drums(seed, song, plan)};
  part("bass") = {bass};
  part("harmonic") = compose_harmony(seed, song, plan);
  part("perc") = {compose_perc(seed, song, plan)};
  part("sub") = {sub_under(bass)};
  Score score;
  for (std::size_t stem = 0; stem < kStemCount; ++stem) {
    if (plan.present[stem]) {
      score.stems[stem] = std::move(parts[stem]);
    }
  }
  return score;
}

Layer sub_under(const Layer& bass) {
  Layer sub = bass;
  sub.sound = Sound::kSine;
  sub.program = 0;
  for (Note& note : sub.notes) {
    note.key -= 12;
  }
  return sub;
}

void end_overlaps(std::vector<Note>& notes) {
  std::stable_sort(notes.begin(), notes.end(),
                   [](const Note& a, const Note& b) { return a.start < b.start; });
  std::map<int, Note*> sounding;  // the last note of each key
  for (Note& note : notes) {
    Note*& before = sounding[note.key];
    if (before != nullptr) {
      before->length = std::min(before->length, note.start - before->start);
    }
    before = &note;
  }
  std::erase_if(notes, [](const Note& note) { return note.length <= 0.0; });
}

}  // namespace stemfabric
