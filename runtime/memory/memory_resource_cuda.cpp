#include <cuda_runtime_api.h>

#include <map>
#include <mutex>

#include "runtime/core/check.h"
#include "runtime/device/device_cuda.h"
#include "runtime/memory/memory_resource.h"

namespace stemfabric {
namespace {

void* checked(cudaError_t status, void* pointer, std::size_t bytes, const char* purpose,
              const char* what) {
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // clears the sticky-free error so that the caller can go on
    throw OutOfMemoryError("out of {} memory: {} asked for {} bytes", what, purpose, bytes);
  }
  SF_CUDA_CHECK(status);
  return pointer;
}

class PinnedResource final : public MemoryResource {
 public:
  void* allocate(std::size_t bytes, const char* purpose) override {
    void* pointer = nullptr;
    return checked(cudaMallocHost(&pointer, bytes), pointer, bytes, purpose, "pinned");
  }
  void deallocate(void* pointer, std::size_t /*bytes*/) noexcept override { cudaFreeHost(pointer); }
  Device device() const override { return {}; }
  std::string_view name() const override { return "pinned"; }
};

class DeviceResource final : public MemoryResource {
 public:
  explicit DeviceResource(int device) : device_(device) {}
  void* allocate(std::size_t bytes, const char* purpose) override {
    SF_CUDA_CHECK(cudaSetDevice(device_));
    void* pointer = nullptr;
    const cudaError_t status = cudaMalloc(&pointer, bytes);
    return checked(status, pointer, bytes, purpose, "device");
  }
  void deallocate(void* pointer, std::size_t /*bytes*/) noexcept override { cudaFree(pointer); }
  Device device() const override { return {DeviceKind::kCuda, device_}; }
  int64_t available_bytes() const override {
    SF_CUDA_CHECK(cudaSetDevice(device_));
    std::size_t free = 0;
    std::size_t total = 0;
    SF_CUDA_CHECK(cudaMemGetInfo(&free, &total));
    return static_cast<int64_t>(free);
  }
  std::string_view name() const override { return "device"; }

 private:
  int device_;
};

}  // namespace

MemoryResource& pinned_resource() {
  static PinnedResource resource;
  return resource;
}

MemoryResource& device_resource(int device) {
  static std::map<int, DeviceResource> resources;
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  return resources.try_emplace(device, device).first->second;
}

}  // namespace stemfabric
