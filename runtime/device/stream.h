// Ordered work on a device. On the CPU every op has finished when it returns, so a CPU stream is
// always idle and its events are time stamps.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

#include "runtime/device/device.h"

namespace stemfabric {

class Event {
 public:
  virtual ~Event() = default;
  virtual void synchronize() = 0;
  virtual bool done() = 0;  // waits for nothing
  // Time from an earlier event of the same kind of stream; both must have completed.
  virtual double seconds_since(const Event& earlier) const = 0;
};

// Work that a stream captured, to be done again as a whole.
class Graph {
 public:
  virtual ~Graph() = default;
  virtual void launch() = 0;  // on the stream that captured it
};

class Stream {
 public:
  virtual ~Stream() = default;
  Device device() const { return device_; }
  virtual void synchronize() = 0;
  virtual std::unique_ptr<Event> record() = 0;
  virtual void wait(const Event& event) = 0;  // later work waits for the event
  // Later work waits for all that another stream of the device was given so far. Where that one
  // captures, this one's work is captured with it, until the first follows this one in turn.
  virtual void follow(Stream& other) = 0;
  // Another stream of the same device.
  virtual std::unique_ptr<Stream> another() const = 0;
  // In stream order: `bytes` from one place to another, each on this device or the host; and the
  // same byte everywhere. Host memory must stay valid until the stream has come so far.
  virtual void copy(void* to, const void* from, std::size_t bytes) = 0;
  virtual void fill(void* at, unsigned char byte, std::size_t bytes) = 0;
  // Keeps what `work` puts on this stream instead of doing it: kernels with their arguments, copies
  // and fills with their addresses. Meanwhile nothing may be waited for, recorded or allocated;
  // streams may follow each other.
  // Only where can_capture().
  virtual bool can_capture() const { return false; }
  virtual std::unique_ptr<Graph> capture(const std::function<void()>& work);
  virtual void* native() const { return nullptr; }  // cudaStream_t on CUDA

 protected:
  explicit Stream(Device device) : device_(device) {}

 private:
  Device device_;
};

// Throws a DeviceError that says why if the device cannot be used.
std::unique_ptr<Stream> make_stream(Device device);

}  // namespace stemfabric
