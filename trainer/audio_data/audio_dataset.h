// Reading an audio data set folder (docs/audio_data.md): chunks of six stems and their mixture, as
// the parts that chunk_mix makes them of, each a pure function of (seed, epoch, sample). Errors are
// InputErrors that name file and entry.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/chunk_mix/chunk_mix.h"
#include "runtime/memory/buffer.h"
#include "trainer/audio_data/audio_manifest.h"
#include "trainer/audio_data/audio_track.h"
#include "trainer/config/config.h"

namespace stemfabric {

// One batch of chunks on the host, in fixed buffers (AudioDataset::make_batch). All parts of rows
// beyond `size` are absent.
struct AudioBatch {
  AudioBatch(int64_t capacity, int64_t frames, int64_t part_bytes, MemoryResource& memory);
  int64_t capacity;
  int64_t frames;  // N
  int64_t size = 0;
  Tensor pcm;                    // [bytes] u8: of all parts, as they are stored
  int64_t pcm_bytes = 0;         // that are used, from the first on
  Tensor parts;                  // [capacity, 7, sizeof(ChunkPart)] u8: six stems, the remainder
  Tensor presence;               // [capacity, 6] u8: 1 = the stem is known (it may be silent)
  std::vector<int64_t> samples;  // indices in the data set
};

// How chunks are taken from tracks.
struct AudioSampling {
  int64_t chunk_frames = 0;     // N
  int64_t sample_rate = 44100;  // for the times in id()
  // Chunks of one epoch, each from a place drawn evenly over the whole audio. 0: one pass, a track
  // of M frames gives ceil(M / N) chunks, one from each of as many equal parts of it.
  int64_t samples_per_epoch = 0;
  double min_mean_abs = 0.0;  // of the scaled mixture's magnitude; quieter chunks are drawn again
  AugmentationsConfig augmentations;
  uint64_t seed = 0;
  // No draws at all: chunk k of the ceil(M / N) of a track begins at round-down of
  // k (M - N) / (chunks - 1), the same in every epoch, so that they cover it. For validation.
  bool fixed = false;
};
AudioSampling training_sampling(const Config& config);  // audio, augmentations, data, training.seed
AudioSampling validation_sampling(const Config& config);  // fixed, without augmentation

// The chunks of one split. Const members may be called from several threads at once.
class AudioDataset {
 public:
  AudioDataset(std::vector<std::shared_ptr<const AudioTrack>> tracks,
               const AudioSampling& sampling);

  int64_t size() const { return size_; }  // chunks of an epoch
  int64_t chunk_frames() const { return sampling_.chunk_frames; }
  // "Some song @ 12.345 s": where the chunk comes from (before a remix, at the first try).
  std::string id(int64_t sample, int64_t epoch) const;

  // `memory` must be the host's, such as ExecutionContext::staging().
  AudioBatch make_batch(int64_t capacity, MemoryResource& memory = host_resource()) const;
  int64_t part_bytes() const { return part_bytes_; }  // that a part of a chunk takes at most

  // Fills the first rows with these chunks of an epoch (they count from 0): what chunk_mix makes of
  // them is scaled by the tracks' gains. What a row holds depends on (seed, epoch, sample) alone.
  void gather(std::span<const int64_t> samples, int64_t epoch, AudioBatch& batch) const;

  std::span<const std::shared_ptr<const AudioTrack>> tracks() const { return tracks_; }

 private:
  // A part of a track, as it goes into a chunk.
  struct Part {
    const AudioTrack* track = nullptr;  // null: nothing
    int64_t first = 0;
    float factor = 1.0F;
    bool swap = false;  // left and right
  };
  struct Plan {
    std::array<Part, kAudioParts> parts;
    int64_t speed_percent = 100;  // of all parts; each begins where it would at 100
  };
  struct Place {
    int64_t track = 0;
    int64_t first = 0;
  };
  class Draw;
  int64_t spare(int64_t track) const;  // the last frame where a whole chunk can begin
  Place place(int64_t sample, int64_t epoch, int attempt) const;
  Plan plan(int64_t sample, int64_t epoch, int attempt) const;
  // Puts the parts of a chunk at `begin` of `pcm` and describes them; gives where they end.
  int64_t copy_parts(const Plan& plan, Tensor& pcm, int64_t begin, ChunkPart* parts) const;
  int64_t render_at_speed(const Plan& plan, Tensor& pcm, int64_t begin, ChunkPart* parts) const;

  std::vector<std::shared_ptr<const AudioTrack>> tracks_;
  AudioSampling sampling_;
  int64_t size_ = 0;
  int64_t part_bytes_ = 0;
  std::vector<int64_t> first_chunk_;  // of each track, and the total at the end
  std::vector<int64_t> first_frame_;  // of each track, as if laid end to end
  std::array<std::vector<int64_t>, kStemCount> with_stem_;  // tracks that have a stem
};

// A whole audio data set folder.
struct AudioDatasetFolder {
  std::filesystem::path root;
  AudioManifest manifest;
  std::string manifest_text;
  std::vector<std::shared_ptr<const AudioTrack>> train;  // at least one
  std::vector<std::shared_ptr<const AudioTrack>> validation;
  std::vector<std::shared_ptr<const AudioTrack>> test;
  std::string hash;  // over all tracks
};
// Whether the folder's manifest says "kind": "audio". (False also where there is none.)
bool is_audio_dataset(const std::filesystem::path& root);
// Checks the manifest's own hash and every file's size and header; not their content
// (check_content).
AudioDatasetFolder open_audio_dataset(const std::filesystem::path& root);
// InputError that names every file whose content is not what the manifest says. Reads all of them.
void check_content(const AudioDatasetFolder& folder);

}  // namespace stemfabric
