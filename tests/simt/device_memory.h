// Memory of the device that the SIMT executor stands in for, as a GPU's is: the host cannot touch
// it. Only while device work runs (a kernel, a copy or fill of the stream, what stands in for a
// library) do its pages allow access; at any other time the program ends with a message that names
// the block that was touched. And kernels may not be given addresses of the host's memory.
#pragma once

#include <cstdint>
#include <string>

#include "runtime/memory/memory_resource.h"

namespace stemfabric::test {

class SimtDeviceMemory final : public MemoryResource {
 public:
  // All blocks of the program come from one range of addresses. limit_bytes: OutOfMemoryError
  // beyond it; 0: the size of the range.
  explicit SimtDeviceMemory(int64_t limit_bytes = 0) : limit_(limit_bytes) {}

  void* allocate(std::size_t bytes, const char* purpose) override;  // filled with NaN
  void deallocate(void* pointer, std::size_t bytes) noexcept override;
  Device device() const override { return {DeviceKind::kCuda, 0}; }
  int64_t available_bytes() const override;
  std::string_view name() const override { return "device"; }

 private:
  int64_t limit_;
  int64_t used_ = 0;
};

}  // namespace stemfabric::test
