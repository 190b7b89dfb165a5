// The six arrays of a snapshot, of planar float samples.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/device/execution_context.h"
#include "trainer/features/rhythm.h"
#include "trainer/snapshot/layout.h"

namespace stemfabric {

struct SongSamples {
  std::vector<std::vector<float>> channels;  // one or two
  std::vector<float> mono;                   // their mean
  int sample_rate = 0;

  int64_t samples() const { return static_cast<int64_t>(mono.size()); }
  int64_t channel_count() const { return static_cast<int64_t>(channels.size()); }
};

// Mean squares in 32 bands of equal width on the mel scale, at every `stride`-th raw index of the
// spectral group (raw index / 32 = frame, rest = band).
std::vector<float> band_energies(const ExecutionContext& ctx, std::span<const float> mono,
                                 int sample_rate, int64_t stride);

// The kept values of any group.
std::vector<float> feature_group(const ExecutionContext& ctx, FeatureGroup group,
                                 const SongSamples& song, std::span<const Onset> onsets);

}  // namespace stemfabric
