// One track of an audio data set: a memory-mapped file of PCM, as `stemfabric dataset --audio` made
// it (docs/audio_data.md).
//
//   tensor of the file | shape  | dtype
//   pcm.<stem>         | [2, N] | i16 (value / 32768) or f32; absent: the stem is not known here
//   pcm.remainder      | [2, N] | the mixture less the sum of the stems; absent: it is their sum
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "runtime/io/safetensors.h"
#include "trainer/stems.h"

namespace stemfabric {

inline constexpr int kAudioChannels = 2;
// What sounds in a mixture: the stems and, as the last one, the remainder.
inline constexpr int kAudioParts = kStemCount + 1;

// What the manifest says of a track.
struct AudioTrackInfo {
  std::string id;
  std::string file;    // relative to the data set's folder: "train/Some song.safetensors"
  int64_t frames = 0;  // N
  double gain = 1.0;   // 0.1 / RMS of the mixture's parts that are not silent
  std::array<bool, kStemCount> present{};
  bool remainder = false;
  uint64_t bytes = 0;  // of the file
  std::string sha256;  // of the file
};

// What a hash over tracks takes of each: "<id> <sha256>\n".
std::string track_hash_line(const AudioTrackInfo& info);

// Readers may be on any thread.
class AudioTrack {
 public:
  // Checks the file against `info`: size, names, shapes, dtypes; not the hash (intact()). Throws
  // InputErrors that name file and tensor.
  AudioTrack(const std::filesystem::path& root, AudioTrackInfo info);

  const AudioTrackInfo& info() const { return info_; }
  int64_t frames() const { return info_.frames; }
  bool present(int stem) const { return info_.present[static_cast<std::size_t>(stem)]; }

  // A part as it is stored; empty if the track does not have it.
  const ConstTensorView& pcm(int part) const { return pcm_[static_cast<std::size_t>(part)]; }
  // What a stored sample of the part is multiplied with, to be its value times `factor`.
  float pcm_factor(int part, float factor) const;
  // sum[n] += factor * value for the frames [first, first + frames) of one channel of a part that
  // the track has; frames beyond the end are 0.
  void add(int part, int channel, int64_t first, int64_t frames, float factor, float* sum) const;

  // Is the content of the file what the manifest says? Reads all of it.
  bool intact() const;
  const std::filesystem::path& path() const { return file_.path(); }

 private:
  AudioTrackInfo info_;
  SafetensorsFile file_;
  std::array<ConstTensorView, kAudioParts> pcm_;
};

// Over their content, in this order.
std::string hash_of_tracks(std::span<const std::shared_ptr<const AudioTrack>> tracks);

}  // namespace stemfabric
