// From notes to 16-bit samples: stems at their levels and a mixture that is exactly their sum.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "trainer/demo_songs/song_score.h"
#include "trainer/demo_songs/sound_font.h"

namespace stemfabric {

// A sine per note: level e^(-0.7 t) with t in seconds, 8 ms attack, 50 ms release; both channels.
std::vector<float> play_sine(const Layer& layer, double bpm, int sample_rate, int64_t frames,
                             bool saturated);

struct SongSound {
  int64_t frames = 0;
  std::array<std::vector<int16_t>, kStemCount> stems;  // interleaved [frames, 2]; empty: absent
  std::vector<int16_t> mixture;                        // the sum of the stems, sample by sample
};

// Each stem is brought to -20 dBFS RMS (over the samples above a thousandth of its peak) times a
// gain of its own, faded over its last 30 ms; then one factor for all brings the peak of the sum
// (or of a stem, if that is higher) to the plan's. Rounded to 16 bits before they are summed.
SongSound render_song(const SoundFont& font, int sample_rate, const SongPlan& plan,
                      const Score& score);

// The part of render_song() after the synthesizer.
SongSound mix_stems(std::array<std::vector<float>, kStemCount> stems, int64_t frames,
                    int sample_rate, double loudness, double peak);

}  // namespace stemfabric
