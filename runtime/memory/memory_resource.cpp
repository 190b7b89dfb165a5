#include "runtime/memory/memory_resource.h"

#include <new>

#include "runtime/core/check.h"

namespace stemfabric {
namespace {

class HostResource final : public MemoryResource {
 public:
  void* allocate(std::size_t bytes, const char* purpose) override {
    void* pointer = ::operator new(bytes, std::align_val_t(kAlignment), std::nothrow);
    if (pointer == nullptr) {
      throw OutOfMemoryError("out of host memory: {} asked for {} bytes", purpose, bytes);
    }
    return pointer;
  }
  void deallocate(void* pointer, std::size_t /*bytes*/) noexcept override {
    ::operator delete(pointer, std::align_val_t(kAlignment));
  }
  Device device() const override { return {}; }
  std::string_view name() const override { return "host"; }
};

}  // namespace

MemoryResource& host_resource() {
  static HostResource resource;
  return resource;
}

MemoryResource& default_resource(Device device) {
#if SF_HAVE_CUDA
  if (device.kind == DeviceKind::kCuda) {
    return device_resource(device.index);
  }
#endif
  SF_CHECK(device.kind == DeviceKind::kCpu, "no memory for {} in this build", device.to_string());
  return host_resource();
}

MemoryResource& staging_resource(Device device) {
#if SF_HAVE_CUDA
  if (device.kind == DeviceKind::kCuda) {
    return pinned_resource();
  }
#endif
  static_cast<void>(device);
  return host_resource();
}

}  // namespace stemfabric
