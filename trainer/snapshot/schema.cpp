#include "trainer/snapshot/schema.h"

namespace stemfabric {

void SnapshotRecord::clear() {
  id.clear();
  samples = 0;
  sample_rate = 0.0;
  channels = 0;
  strides.fill(0);
  for (auto& group : groups) {
    group.clear();
  }
  context.key = 0;
  context.mode = Mode::kUnknown;
  context.bpm.reset();
  context.transient_count = 0;
  context.transient_density = 0.0;
  context.dominant_frequencies.clear();
  context.tension = 0.0;
  has_ground_truth = false;
  has_stem.fill(false);
  for (auto& stem : stems) {
    stem.clear();
  }
  corrections.clear();
  classification = kUnknownClassification;
  confidence = 0.0;
}

}  // namespace stemfabric
