#include <cuda_runtime_api.h>

#include <map>
#include <memory>
#include <mutex>

#include "runtime/core/check.h"
#include "runtime/device/device_cuda.h"
#include "runtime/device/stream.h"
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

class StreamOrderedResource final : public MemoryResource {
 public:
  explicit StreamOrderedResource(Stream& stream) : stream_(stream) {}
  void* allocate(std::size_t bytes, const char* purpose) override {
    void* pointer = nullptr;
    const cudaError_t status =
        cudaMallocAsync(&pointer, bytes, static_cast<cudaStream_t>(stream_.native()));
    return checked(status, pointer, bytes, purpose, "stream-ordered device");
  }
  void deallocate(void* pointer, std::size_t /*bytes*/) noexcept override {
    cudaFreeAsync(pointer, static_cast<cudaStream_t>(stream_.native()));
  }
  Device device() const override { return stream_.device(); }
  std::string_view name() const override { return "stream-ordered"; }

 private:
  Stream& stream_;
};

// One resource per key, made on first use and kept.
template <typename Key, typename Make>
MemoryResource& cached(std::map<Key, std::unique_ptr<MemoryResource>>& cache, Key key, Make make) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  auto& slot = cache[key];
  if (!slot) {
    slot = make();
  }
  return *slot;
}

}  // namespace

MemoryResource& pinned_resource() {
  static PinnedResource resource;
  return resource;
}

MemoryResource& device_resource(int device) {
  static std::map<int, std::unique_ptr<MemoryResource>> cache;
  return cached(cache, device, [&] { return std::make_unique<DeviceResource>(device); });
}

MemoryResource& stream_ordered_resource(Stream& stream) {
  static std::map<Stream*, std::unique_ptr<MemoryResource>> cache;
  return cached(cache, &stream, [&] { return std::make_unique<StreamOrderedResource>(stream); });
}

}  // namespace stemfabric
