#include "runtime/memory/tracking_resource.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <unordered_map>

#include "runtime/core/check.h"

namespace stemfabric {

struct TrackingResource::State {
  struct Block {
    std::size_t bytes;
    const char* purpose;
  };
  mutable std::mutex mutex;
  Statistics statistics;
  std::unordered_map<void*, Block> blocks;
};

TrackingResource::TrackingResource(MemoryResource& upstream, int64_t limit_bytes)
    : upstream_(upstream), limit_bytes_(limit_bytes), state_(std::make_unique<State>()) {}

TrackingResource::~TrackingResource() = default;

void* TrackingResource::allocate(std::size_t bytes, const char* purpose) {
  const std::lock_guard lock(state_->mutex);
  auto& s = state_->statistics;
  const auto size = static_cast<int64_t>(bytes);
  if (limit_bytes_ > 0 && s.current_bytes + size > limit_bytes_) {
    throw OutOfMemoryError("out of {} memory: {} asked for {} bytes; {} of {} bytes are in use",
                           upstream_.name(), purpose, bytes, s.current_bytes, limit_bytes_);
  }
  void* pointer = upstream_.allocate(bytes, purpose);
  state_->blocks[pointer] = {bytes, purpose};
  s.current_bytes += size;
  s.total_bytes += size;
  s.peak_bytes = std::max(s.peak_bytes, s.current_bytes);
  ++s.allocations;
  ++s.live;
  return pointer;
}

void TrackingResource::deallocate(void* pointer, std::size_t bytes) noexcept {
  {
    const std::lock_guard lock(state_->mutex);
    state_->statistics.current_bytes -= static_cast<int64_t>(bytes);
    --state_->statistics.live;
    state_->blocks.erase(pointer);
  }
  upstream_.deallocate(pointer, bytes);
}

int64_t TrackingResource::available_bytes() const {
  const int64_t upstream = upstream_.available_bytes();
  if (limit_bytes_ == 0) {
    return upstream;
  }
  const int64_t left = limit_bytes_ - statistics().current_bytes;
  return upstream < 0 ? left : std::min(left, upstream);
}

TrackingResource::Statistics TrackingResource::statistics() const {
  const std::lock_guard lock(state_->mutex);
  return state_->statistics;
}

std::string TrackingResource::live_report() const {
  const std::lock_guard lock(state_->mutex);
  std::map<std::string, std::pair<int64_t, std::size_t>> by_purpose;
  for (const auto& [pointer, block] : state_->blocks) {
    auto& [count, bytes] = by_purpose[block.purpose];
    ++count;
    bytes += block.bytes;
  }
  std::string report;
  for (const auto& [purpose, sum] : by_purpose) {
    report += fmt::format("{}: {} blocks, {} bytes\n", purpose, sum.first, sum.second);
  }
  return report;
}

}  // namespace stemfabric
