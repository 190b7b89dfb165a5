#include "trainer/audio_data/chunk_source.h"

#include "kernels/stft/stft.h"

namespace stemfabric {

ChunkSource::ChunkSource(AudioDataset dataset, const AudioConfig& audio)
    : dataset_(std::move(dataset)), audio_(audio) {}

int64_t ChunkSource::tokens() const {
  return stft_frames(dataset_.chunk_frames(), audio_.hop_length);
}

double ChunkSource::seconds() const {
  return static_cast<double>(dataset_.chunk_frames()) / static_cast<double>(audio_.sample_rate);
}

std::unique_ptr<SampleBatch> ChunkSource::make_batch(int64_t capacity,
                                                     MemoryResource& memory) const {
  return std::make_unique<ChunkBatch>(dataset_.make_batch(capacity, memory));
}

std::size_t ChunkSource::batch_bytes(int64_t capacity) const {
  return static_cast<std::size_t>(capacity * kAudioParts * dataset_.part_bytes());
}

void ChunkSource::fill(int64_t epoch, std::span<const int64_t> samples, SampleBatch& batch) const {
  auto& rows = dynamic_cast<ChunkBatch&>(batch);
  dataset_.gather(samples, epoch, rows.audio);
  rows.size = rows.audio.size;
  rows.epoch = epoch;
  rows.samples.assign(samples.begin(), samples.end());
}

}  // namespace stemfabric
