#include "runtime/device/stream.h"

#include <chrono>
#include <cstring>

#include "runtime/core/check.h"
#include "runtime/device/device_cuda.h"

namespace stemfabric {
namespace {

class CpuEvent final : public Event {
 public:
  void synchronize() override {}
  bool done() override { return true; }
  double seconds_since(const Event& earlier) const override {
    return std::chrono::duration<double>(time_ - dynamic_cast<const CpuEvent&>(earlier).time_)
        .count();
  }

 private:
  std::chrono::steady_clock::time_point time_ = std::chrono::steady_clock::now();
};

class CpuStream final : public Stream {
 public:
  CpuStream() : Stream({}) {}
  void synchronize() override {}
  std::unique_ptr<Event> record() override { return std::make_unique<CpuEvent>(); }
  void wait(const Event& /*event*/) override {}
  void follow(Stream& /*other*/) override {}
  std::unique_ptr<Stream> another() const override { return std::make_unique<CpuStream>(); }
  void copy(void* to, const void* from, std::size_t bytes) override {
    std::memmove(to, from, bytes);
  }
  void fill(void* at, unsigned char byte, std::size_t bytes) override {
    std::memset(at, byte, bytes);
  }
};

}  // namespace

std::unique_ptr<Graph> Stream::capture(const std::function<void()>& /*work*/) {
  SF_CHECK(false, "a stream of {} captures no work", device_.to_string());
  return nullptr;
}

std::unique_ptr<Stream> make_stream(Device device) {
  if (device.kind == DeviceKind::kCpu) {
    return std::make_unique<CpuStream>();
  }
  const std::string reason = cuda_unavailable_reason();
  if (!reason.empty()) {
    throw DeviceError("no GPU for device {}: {}; use device: cpu", device.to_string(), reason);
  }
#if SF_HAVE_CUDA
  return cuda::make_stream(device.index);
#else
  return nullptr;
#endif
}

}  // namespace stemfabric
