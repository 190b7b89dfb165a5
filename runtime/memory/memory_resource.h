// Where bytes come from. All resources return 64-byte aligned memory and throw OutOfMemoryError
// with the size asked for and by whom.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "runtime/device/device.h"

namespace stemfabric {

inline constexpr std::size_t kAlignment = 64;

class MemoryResource {
 public:
  virtual ~MemoryResource() = default;
  // `purpose` names the owner in errors and leak reports ("activations"); it must outlive the
  // block.
  virtual void* allocate(std::size_t bytes, const char* purpose) = 0;
  virtual void deallocate(void* pointer, std::size_t bytes) noexcept = 0;
  virtual Device device() const = 0;  // where the memory lives
  // How much could still be had, as far as it is known; -1 if it is not.
  virtual int64_t available_bytes() const { return -1; }
  virtual std::string_view name() const = 0;
};

MemoryResource& host_resource();                  // ordinary memory
MemoryResource& default_resource(Device device);  // host, or device memory of a GPU
// Host memory for what is copied to and from a device: pinned for a GPU.
MemoryResource& staging_resource(Device device);

#if SF_HAVE_CUDA
MemoryResource& pinned_resource();            // host memory the GPU can copy from directly
MemoryResource& device_resource(int device);  // cudaMalloc
#endif

}  // namespace stemfabric
