// A stream of the device that the SIMT executor stands in for: cuda:0. Copies, fills, kernels and
// products are only queued; they run, in order, when the stream or an event of it is waited for.
// A missing wait, and host memory that is overwritten or given back too early, so show as wrong
// results.
#pragma once

#include <chrono>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>

#include "kernels/simt/queue.h"
#include "runtime/core/check.h"
#include "runtime/device/stream.h"
#include "runtime/memory/memory_resource.h"

namespace stemfabric::test {

class SimtEvent final : public Event {
 public:
  using Clock = std::chrono::steady_clock;

  // Behind all that the queue holds now.
  explicit SimtEvent(std::shared_ptr<simt::Queue> queue)
      : queue_(std::move(queue)), time_(std::make_shared<std::optional<Clock::time_point>>()) {
    queue_->push([time = time_] { *time = Clock::now(); });
    place_ = queue_->end();
  }
  void synchronize() override { queue_->run_until(place_); }
  bool done() override { return queue_->advance(place_); }
  double seconds_since(const Event& earlier) const override {
    const auto& first = dynamic_cast<const SimtEvent&>(earlier);
    SF_CHECK(*first.time_ && *time_, "the time between events that have not both completed");
    return std::chrono::duration<double>(**time_ - **first.time_).count();
  }
  // For another queue: everything before the event.
  simt::Queue::Attempt waiting() const {
    return [queue = queue_, place = place_] { return queue->advance(place); };
  }

 private:
  std::shared_ptr<simt::Queue> queue_;
  std::shared_ptr<std::optional<Clock::time_point>> time_;
  int64_t place_ = 0;
};

class SimtGraph final : public Graph {
 public:
  SimtGraph(simt::Queue::Captured work, std::shared_ptr<int64_t> launches)
      : work_(std::move(work)), launches_(std::move(launches)) {}
  void launch() override {
    ++*launches_;
    for (const auto& piece : work_) {
      piece();
    }
  }

 private:
  simt::Queue::Captured work_;
  std::shared_ptr<int64_t> launches_;
};

class SimtStream final : public Stream {
 public:
  SimtStream() : Stream({DeviceKind::kCuda, 0}) {}
  void synchronize() override {
    check_no_capture("waited for");
    queue_->run();
  }
  std::unique_ptr<Event> record() override {
    check_no_capture("recorded");
    return std::make_unique<SimtEvent>(queue_);
  }
  bool can_capture() const override { return true; }
  std::unique_ptr<Graph> capture(const std::function<void()>& work) override {
    if (refuses_captures) {
      throw DeviceError("captures are refused");
    }
    queue_->begin_capture();
    try {
      work();
    } catch (...) {
      queue_->abandon_capture();
      throw;
    }
    return std::make_unique<SimtGraph>(queue_->end_capture(), graph_launches_);
  }
  bool refuses_captures = false;
  int64_t graph_launches() const { return *graph_launches_; }
  void wait(const Event& event) override {
    check_no_capture("made to wait");
    queue_->push_attempt(dynamic_cast<const SimtEvent&>(event).waiting());
  }
  void follow(Stream& other) override { queue_->follow(simt::Queue::of(other)); }
  std::unique_ptr<Stream> another() const override {
    auto stream = std::make_unique<SimtStream>();
    stream->runs_at_once_ = others_run_at_once;
    return stream;
  }
  // Streams that another() makes from now on do copies at once instead of as late as may be: also
  // where they wait for another stream, which runs so far then. A wait that is missing shows too.
  static inline bool others_run_at_once = false;
  void copy(void* to, const void* from, std::size_t bytes) override {
    queue_->push([=] { std::memmove(to, from, bytes); });
    if (runs_at_once_ && !simt::any_queue_captures()) {
      queue_->run();
    }
  }
  void fill(void* at, unsigned char byte, std::size_t bytes) override {
    queue_->push([=] { std::memset(at, byte, bytes); });
  }
  void* native() const override { return queue_.get(); }

 private:
  void check_no_capture(const char* what) const {
    SF_CHECK(!queue_->captures(), "a stream is {} while its work is captured", what);
  }
  std::shared_ptr<simt::Queue> queue_ = std::make_shared<simt::Queue>();
  std::shared_ptr<int64_t> graph_launches_ = std::make_shared<int64_t>(0);
  bool runs_at_once_ = false;
};

// Ordinary memory as that of the device: as with cudaFree, a block is given back once all that was
// queued has run.
class SimtHostMemory final : public MemoryResource {
 public:
  void* allocate(std::size_t bytes, const char* purpose) override {
    return host_resource().allocate(bytes, purpose);
  }
  void deallocate(void* pointer, std::size_t bytes) noexcept override {
    simt::finish_all_queues_later();
    host_resource().deallocate(pointer, bytes);
  }
  Device device() const override { return {DeviceKind::kCuda, 0}; }
  std::string_view name() const override { return "device"; }
};

// Host memory for what is copied to and from the device: a block that was given back holds NaN for
// a while, so that a copy that still reads it spoils what depends on it.
class SimtStagingMemory final : public MemoryResource {
 public:
  ~SimtStagingMemory() override {
    while (!given_back_.empty()) {
      free_oldest();
    }
  }
  void* allocate(std::size_t bytes, const char* purpose) override {
    return host_resource().allocate(bytes, purpose);
  }
  void deallocate(void* pointer, std::size_t bytes) noexcept override {
    const std::lock_guard lock(mutex_);
    std::memset(pointer, 0xFF, bytes);
    given_back_.push_back({pointer, bytes});
    if (given_back_.size() > 100) {
      free_oldest();
    }
  }
  Device device() const override { return {}; }
  std::string_view name() const override { return "staging"; }

 private:
  void free_oldest() noexcept {
    host_resource().deallocate(given_back_.front().pointer, given_back_.front().bytes);
    given_back_.pop_front();
  }
  struct Block {
    void* pointer;
    std::size_t bytes;
  };
  std::deque<Block> given_back_;
  std::mutex mutex_;
};

}  // namespace stemfabric::test
