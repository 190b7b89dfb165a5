// A sound font played by FluidSynth. The library (LGPL-2.1) is loaded when the first SoundFont is
// made, so that everything else works where it is not installed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "trainer/demo_songs/song_score.h"

namespace stemfabric {

// Where Debian, Fedora and Arch put FluidR3_GM.sf2 and their default font; empty if it is in none.
std::filesystem::path find_sound_font();
// What to install, as one sentence.
std::string sound_font_hint();

class SoundFont {
 public:
  // UsageError with sound_font_hint() if the library is missing, InputError for a file that is no
  // sound font.
  SoundFont(const std::filesystem::path& path, int sample_rate);
  ~SoundFont();
  SoundFont(const SoundFont&) = delete;
  SoundFont& operator=(const SoundFont&) = delete;

  const std::filesystem::path& path() const;

  // Interleaved stereo [frames, 2] of layers that are no sine, at `bpm` beats per minute, without
  // reverberation and chorus: where nothing sounds are exact zeros. Notes begin at multiples of 64
  // samples. Each call plays on a synthesizer of its own: the samples depend on the arguments
  // alone. Any number of threads may call.
  std::vector<float> play(std::span<const Layer> layers, double bpm, int64_t frames) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace stemfabric
