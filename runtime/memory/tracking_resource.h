// Counts what goes through a resource, names what was not returned, and can refuse (for tests of
// out-of-memory handling).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "runtime/memory/memory_resource.h"

namespace stemfabric {

class TrackingResource final : public MemoryResource {
 public:
  struct Statistics {
    int64_t current_bytes = 0;
    int64_t peak_bytes = 0;
    int64_t total_bytes = 0;
    int64_t allocations = 0;
    int64_t live = 0;  // blocks not yet returned
  };

  // limit_bytes: allocations that would exceed it throw OutOfMemoryError; 0 = no limit.
  explicit TrackingResource(MemoryResource& upstream, int64_t limit_bytes = 0);
  ~TrackingResource() override;

  void* allocate(std::size_t bytes, const char* purpose) override;
  void deallocate(void* pointer, std::size_t bytes) noexcept override;
  Device device() const override { return upstream_.device(); }
  int64_t available_bytes() const override;  // up to the limit
  std::string_view name() const override { return "tracking"; }

  Statistics statistics() const;
  // One line per purpose with live blocks: "activations: 2 blocks, 1024 bytes"; empty if none.
  std::string live_report() const;

 private:
  struct State;
  MemoryResource& upstream_;
  int64_t limit_bytes_;
  std::unique_ptr<State> state_;
};

}  // namespace stemfabric
