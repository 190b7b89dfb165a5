#include "benchmarks/support/cold_timer.h"

namespace stemfabric::benchmarks {
namespace {

// Several times the L2 cache of any GPU so far (H200: 60 MB).
constexpr std::size_t kAreaBytes = std::size_t{256} << 20;
constexpr std::size_t kPartBytes = std::size_t{8} << 20;
constexpr std::size_t kPartsRead = 24;

}  // namespace

ColdTimer::ColdTimer(const ExecutionContext& ctx)
    : ctx_(ctx),
      area_(ctx.resource(), kAreaBytes, "flushing caches"),
      part_(ctx.resource(), kPartBytes, "flushing caches") {}

// Writing evicts what was there, but leaves lines that the timed call would have to write back;
// reading after it leaves clean ones. Meanwhile, for about 0.2 ms, the host runs ahead and queues
// the timed call, so that the time between the events is the device's.
void ColdTimer::flush_caches() {
  Stream& stream = ctx_.stream();
  stream.fill(area_.data(), 1, kAreaBytes);
  for (std::size_t i = 0; i < kPartsRead; ++i) {
    stream.copy(part_.data(), static_cast<const std::byte*>(area_.data()) + i * kPartBytes,
                kPartBytes);
  }
}

double ColdTimer::seconds_of(const std::function<void()>& run) {
  flush_caches();
  const auto begin = ctx_.stream().record();
  run();
  const auto end = ctx_.stream().record();
  end->synchronize();
  return end->seconds_since(*begin);
}

}  // namespace stemfabric::benchmarks
