// Audio files through libsndfile: read WAV (also RF64, W64, AIFF), FLAC, Ogg Vorbis, Opus and MP3;
// written WAV and FLAC. Samples are float32, interleaved, full scale 1 (integers: value /
// 2^(bits-1), exact up to 24 bits). Whatever is wrong with a file is an InputError that names it; a
// file that could not be written, an IoError. One reader or writer serves one thread at a time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

namespace stemfabric {

struct AudioInfo {
  int64_t frames = 0;  // samples per channel
  int sample_rate = 0;
  int channels = 0;
  std::string format;         // "WAV/PCM_16", "FLAC/PCM_24", "OGG/VORBIS", "MPEG/LAYER_III"
  bool exact_16_bit = false;  // every sample is an integer / 32768
};

// What a reader accepts, so that a hostile header cannot ask for absurd amounts of memory.
inline constexpr int kMaxAudioChannels = 64;
inline constexpr int kMinAudioSampleRate = 1000;
inline constexpr int kMaxAudioSampleRate = 768'000;

class AudioReader {
 public:
  // A WAV, RF64 or AIFF whose header promises more samples than it holds is refused as cut off (a
  // W64 is not: it reads as a shorter one), unless its writer could not know the length (a size of
  // 2 GiB or more, as written to pipes).
  explicit AudioReader(const std::filesystem::path& path);
  ~AudioReader();
  AudioReader(AudioReader&& other) noexcept;
  AudioReader& operator=(AudioReader&& other) noexcept;

  const AudioInfo& info() const;
  const std::filesystem::path& path() const;

  // Fills interleaved [frames, channels] from `first_frame` on and returns how many frames that
  // were: all that was asked for, or what is left before the end. InputError if the file ends or
  // breaks before the length of info(). NaN and infinities of float files are passed on.
  // Any part, in any order, is what reading from the start gives. In Ogg and MP3 this costs the
  // decoding of what lies before it: their own seeking is off by a frame here and there.
  int64_t read(int64_t first_frame, int64_t frames, float* interleaved);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

AudioInfo read_audio_info(const std::filesystem::path& path);

enum class SampleFormat : uint8_t { kPcm16, kPcm24, kFloat32 };

// Frames that a WAV file holds, the 4 GiB of its length fields.
int64_t most_wav_frames(int channels, SampleFormat format);

// WAV or FLAC by the extension of the path; FLAC holds no floats, WAV no more than 4 GiB. The bytes
// depend on the samples alone. The file appears under its name in finish(), or never.
class AudioWriter {
 public:
  AudioWriter(const std::filesystem::path& path, int sample_rate, int channels,
              SampleFormat format);
  ~AudioWriter();
  AudioWriter(const AudioWriter&) = delete;
  AudioWriter& operator=(const AudioWriter&) = delete;

  // interleaved [frames, channels]. Integers are round(2^(bits-1) x), ties to even, so that what
  // was read from integers is written as the same ones; beyond full scale they are clipped.
  // NumericError for a value that is not finite, whatever the format.
  void write(const float* interleaved, int64_t frames);
  int64_t clipped() const;  // samples that were, so far
  // close() writes what is buffered and brings it to the disk; commit() only gives the file its
  // name, so that a full disk leaves none of several files. finish() is both.
  void close();
  void commit();
  void finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace stemfabric
