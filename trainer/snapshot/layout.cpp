#include "trainer/snapshot/layout.h"

namespace stemfabric {

int64_t raw_length(FeatureGroup group, int64_t samples, int64_t channels) {
  const GroupGeometry& g = geometry(group);
  const int64_t frames = ceil_div(samples - g.first_start - g.window, g.hop);
  switch (group) {
    case FeatureGroup::kEnergy:
      return frames > 0 ? kEnergyValues : 0;
    case FeatureGroup::kStereo:
      return channels == 1 ? g.slots : frames * g.slots;
    default:
      return frames * g.slots;
  }
}

int64_t known_stride(FeatureGroup group, int64_t samples, int64_t channels, int64_t kept) {
  const int64_t raw = raw_length(group, samples, channels);
  if (group == FeatureGroup::kStereo && channels == 1 && kept == 0) {
    return 1;
  }
  const int64_t stride = stride_of(raw);
  return ceil_div(raw, stride) == kept ? stride : 0;
}

}  // namespace stemfabric
