// Batches gathered on a background thread, two ahead of the one that takes them.
#pragma once

#include <memory>

#include "trainer/data/sample_source.h"
#include "trainer/training/sample_order.h"

namespace stemfabric {

class Prefetcher {
 public:
  // Up to `held` batches are taken at once (the micro-batches of one step).
  // `memory` is the host's: pinned if a GPU is to copy from it.
  Prefetcher(const SampleSource& source, SampleStream stream, int64_t batch_size, int64_t held,
             MemoryResource& memory = host_resource());
  ~Prefetcher();
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  // The next batch; waits for it, rethrows what gathering it threw. Valid until release().
  const SampleBatch& next();
  // Gives all taken batches back, or those that were taken first.
  void release();
  void release(std::size_t batches);

  // Host memory of the ring for a configuration.
  static int64_t batches(int64_t held) { return held + kAhead; }

 private:
  static constexpr int64_t kAhead = 2;
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace stemfabric
