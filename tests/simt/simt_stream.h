// A stream of the device that the SIMT executor stands in for: cuda:0. Work is done at once.
#pragma once

#include <chrono>
#include <cstring>
#include <memory>

#include "kernels/simt/executor.h"
#include "runtime/device/stream.h"

namespace stemfabric::test {

class SimtEvent final : public Event {
 public:
  void synchronize() override {}
  double seconds_since(const Event& earlier) const override {
    return std::chrono::duration<double>(time_ - dynamic_cast<const SimtEvent&>(earlier).time_)
        .count();
  }

 private:
  std::chrono::steady_clock::time_point time_ = std::chrono::steady_clock::now();
};

class SimtStream final : public Stream {
 public:
  SimtStream() : Stream({DeviceKind::kCuda, 0}) {}
  void synchronize() override {}
  std::unique_ptr<Event> record() override { return std::make_unique<SimtEvent>(); }
  void wait(const Event& /*event*/) override {}
  void copy(void* to, const void* from, std::size_t bytes) override {
    const simt::DeviceWork work;
    std::memmove(to, from, bytes);
  }
  void fill(void* at, unsigned char byte, std::size_t bytes) override {
    const simt::DeviceWork work;
    std::memset(at, byte, bytes);
  }
};

}  // namespace stemfabric::test
