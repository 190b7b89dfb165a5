// An audio file as the trainer wants it: planar float32 [C, N] at a wanted rate.
//
// Channels, wanted C from a file with c: c = C as they are; c = 1 copied to each; C = 1 of c = 2
// their mean. Anything else is refused: which loudspeaker a channel means is not for us to guess.
// Rate: trainer/audio/resample.h, so N = round(n · sample_rate / file's rate).
// A sample that is NaN, infinite or beyond kMaxSample (a float file that is not in units of full
// scale, or no audio) is an InputError that names file, time and channel.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>

#include "runtime/io/audio_file.h"
#include "runtime/memory/buffer.h"

namespace stemfabric {

struct AudioLayout {
  int sample_rate = 44100;
  int channels = 2;  // 1 or 2
};

inline constexpr float kMaxSample = 1e6f;

// Reads from the start to the end in blocks: memory does not grow with the file.
class AudioInput {
 public:
  AudioInput(const std::filesystem::path& path, AudioLayout layout);
  ~AudioInput();
  AudioInput(AudioInput&& other) noexcept;
  AudioInput& operator=(AudioInput&& other) noexcept;

  int64_t frames() const;           // N
  const AudioInfo& source() const;  // what the file holds
  // Every sample of this layout is an integer / 32768: the file's are, and none is computed.
  bool exact_16_bit() const;

  // The next `frames` frames, or as many as are left: channel c goes to planar + c·channel_stride.
  int64_t read(int64_t frames, float* planar, int64_t channel_stride);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The whole file, [C, N] f32. InputError if it is longer than kMaxWholeSeconds.
inline constexpr int64_t kMaxWholeSeconds = 4 * 3600;
Tensor read_audio(const std::filesystem::path& path, AudioLayout layout);

}  // namespace stemfabric
