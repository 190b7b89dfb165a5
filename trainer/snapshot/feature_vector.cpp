#include "trainer/snapshot/feature_vector.h"

#include <algorithm>

namespace stemfabric {

std::array<float, kContextValues> context_values(const MusicalContext& context) {
  const double bpm = context.bpm ? std::clamp((*context.bpm - 60.0) / 120.0, 0.0, 1.0) : 0.5;
  return {static_cast<float>(context.key / 12.0), context.mode == Mode::kMajor ? 1.0F : 0.0F,
          static_cast<float>(bpm), static_cast<float>(context.transient_density),
          static_cast<float>(context.tension)};
}

void append_feature_vector(const SnapshotRecord& record, std::vector<float>& out) {
  for (const auto& group : record.groups) {
    out.insert(out.end(), group.begin(), group.end());
  }
  const auto context = context_values(record.context);
  out.insert(out.end(), context.begin(), context.end());
}

}  // namespace stemfabric
