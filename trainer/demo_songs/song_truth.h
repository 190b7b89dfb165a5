// song.json: what is true of a demo song, and what it was made with.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "trainer/demo_songs/demo_songs.h"
#include "trainer/demo_songs/song_score.h"

namespace stemfabric {

// The options that decide what the samples are.
nlohmann::ordered_json song_made_with(const DemoSongsOptions& options, int64_t song);

nlohmann::ordered_json song_truth(const DemoSongsOptions& options, int64_t song,
                                  const SongPlan& plan, const Score& score, int64_t frames);

}  // namespace stemfabric
