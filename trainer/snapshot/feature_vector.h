// The training vector of the original pipeline: the six groups one after the other, then five
// values of the musical context (docs/snapshots.md, "The feature vector").
#pragma once

#include <array>
#include <vector>

#include "trainer/snapshot/schema.h"

namespace stemfabric {

inline constexpr int kContextValues = 5;
// Largest length: five groups of 1000 values, energy, context.
inline constexpr int64_t kMaxVectorLength = 5 * kMaxGroupValues + kEnergyValues + kContextValues;

// Key index / 12; 1 for major, else 0; clamp((bpm - 60) / 120, 0, 1), 0.5 if unknown; transients
// per second, not scaled; tension.
std::array<float, kContextValues> context_values(const MusicalContext& context);

void append_feature_vector(const SnapshotRecord& record, std::vector<float>& out);

}  // namespace stemfabric
