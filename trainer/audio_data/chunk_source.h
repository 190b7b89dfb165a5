// The chunks of an audio data set as the trainer's samples.
#pragma once

#include "trainer/audio_data/audio_dataset.h"
#include "trainer/config/config.h"
#include "trainer/data/sample_source.h"

namespace stemfabric {

struct ChunkBatch : SampleBatch {
  explicit ChunkBatch(AudioBatch chunks) : SampleBatch(chunks.capacity), audio(std::move(chunks)) {}
  AudioBatch audio;
};

class ChunkSource final : public SampleSource {
 public:
  ChunkSource(AudioDataset dataset, const AudioConfig& audio);

  const AudioDataset& dataset() const { return dataset_; }

  int64_t size() const override { return dataset_.size(); }
  int64_t tokens() const override;  // spectra of a chunk
  double seconds() const override;
  std::string name(int64_t epoch, int64_t sample) const override {
    return dataset_.id(sample, epoch);
  }
  std::unique_ptr<SampleBatch> make_batch(int64_t capacity, MemoryResource& memory) const override;
  std::size_t batch_bytes(int64_t capacity) const override;
  void fill(int64_t epoch, std::span<const int64_t> samples, SampleBatch& batch) const override;

 private:
  AudioDataset dataset_;
  AudioConfig audio_;
};

}  // namespace stemfabric
