// What chunk_mix makes of a batch of chunks, on whichever device, on the host.
#pragma once

#include "runtime/memory/host_access.h"
#include "trainer/audio_data/audio_dataset.h"

namespace stemfabric::test {

struct MixedChunks {
  Tensor stems;    // [capacity, 6, 2, N]
  Tensor mixture;  // [capacity, 2, N]
};

inline MixedChunks mixed(const ExecutionContext& ctx, const AudioBatch& batch) {
  const auto there = [&](const Tensor& host) {
    Tensor copy(host.shape(), host.dtype(), ctx.resource(), "parts");
    copy_from_host(ctx, copy.view(), host.view().data());
    return copy;
  };
  const Tensor pcm = there(batch.pcm);
  const Tensor parts = there(batch.parts);
  const Shape stem_shape{batch.capacity, kStemCount, kAudioChannels, batch.frames};
  const Shape mixture_shape{batch.capacity, kAudioChannels, batch.frames};
  Tensor stems(stem_shape, DType::kF32, ctx.resource(), "stems");
  Tensor mixture(mixture_shape, DType::kF32, ctx.resource(), "mixture");
  chunk_mix(
      ctx,
      {.pcm = pcm.view(), .parts = parts.view(), .stems = stems.view(), .mixture = mixture.view()});
  MixedChunks result{Tensor(stem_shape, DType::kF32), Tensor(mixture_shape, DType::kF32)};
  copy_to_host(ctx, result.stems.view().data(), stems.view());
  copy_to_host(ctx, result.mixture.view().data(), mixture.view());
  return result;
}

}  // namespace stemfabric::test
