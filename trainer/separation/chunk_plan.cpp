#include "trainer/separation/chunk_plan.h"

#include <algorithm>

#include "runtime/core/check.h"

namespace stemfabric {

ChunkPlan::ChunkPlan(int64_t frames, int64_t chunk_frames, int64_t num_overlap)
    : frames_(frames), chunk_(std::min(frames, chunk_frames)), margin_(chunk_ / 16) {
  SF_CHECK(frames >= 1 && chunk_frames >= 1 && num_overlap >= 1);
  stride_ = std::max<int64_t>(1, (chunk_ - 2 * margin_) / num_overlap);
  chunks_ = 1 + (frames_ - chunk_ + stride_ - 1) / stride_;
}

int64_t ChunkPlan::first_frame(int64_t chunk) const {
  return std::min(chunk * stride_, frames_ - chunk_);
}

int64_t ChunkPlan::complete_after(int64_t chunk) const {
  return chunk + 1 == chunks_ ? frames_ : first_frame(chunk + 1) + margin_;
}

double ChunkPlan::weight(int64_t chunk, int64_t i) const {
  const int64_t first = first_frame(chunk);
  int64_t distance = chunk_;
  if (first > 0) {
    distance = std::min(distance, i + 1 - margin_);
  }
  if (first + chunk_ < frames_) {
    distance = std::min(distance, chunk_ - margin_ - i);
  }
  return static_cast<double>(std::max<int64_t>(0, distance));
}

}  // namespace stemfabric
