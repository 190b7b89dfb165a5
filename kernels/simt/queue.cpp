#include "kernels/simt/queue.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <utility>

#include "kernels/simt/executor.h"
#include "runtime/core/check.h"
#include "runtime/device/stream.h"

namespace stemfabric::simt {
namespace {

// Never destroyed: queues may outlive every other static object. Work may wait for work of another
// queue, so whoever runs any holds the lock of all.
struct Registry {
  std::recursive_mutex mutex;
  std::vector<Queue*> queues;
};
Registry& registry() {
  static auto* const registry = new Registry;
  return *registry;
}

// Work that is queued and failures that were not thrown yet, of all queues: tests ask before every
// element they read.
std::atomic<int64_t> pending = 0;

}  // namespace

Queue::Queue() {
  const std::lock_guard lock(registry().mutex);
  registry().queues.push_back(this);
}

Queue::~Queue() {
  run_or_keep_failure();
  const std::lock_guard lock(registry().mutex);
  pending -= failure_ ? 1 : 0;
  std::erase(registry().queues, this);
}

Queue& Queue::of(const Stream& stream) {
  auto* queue = static_cast<Queue*>(stream.native());
  SF_CHECK(queue != nullptr, "{} has no queue of the executor's", stream.device().to_string());
  return *queue;
}

void Queue::push(Work work) {
  const std::lock_guard lock(registry().mutex);
  if (captured_) {
    captured_->push_back(std::move(work));
    return;
  }
  work_.push_back(std::move(work));
  ++pending;
}

void Queue::begin_capture() {
  const std::lock_guard lock(registry().mutex);
  SF_CHECK(!captured_, "work is captured already");
  captured_.emplace();
}

std::vector<Queue::Work> Queue::end_capture() {
  const std::lock_guard lock(registry().mutex);
  SF_CHECK(captured_.has_value(), "no work is captured");
  std::vector<Work> captured = std::move(*captured_);
  captured_.reset();
  return captured;
}

void Queue::run_until(int64_t place) {
  const std::lock_guard lock(registry().mutex);
  if (failure_) {
    drop_rest();
    --pending;
    std::rethrow_exception(std::exchange(failure_, nullptr));
  }
  if (begin_ >= place) {
    return;
  }
  const DeviceWork device_work;
  while (begin_ < place) {
    const Work work = std::move(work_.front());
    work_.pop_front();
    ++begin_;
    --pending;
    try {
      work();
    } catch (...) {
      drop_rest();
      throw;
    }
  }
}

void Queue::drop_rest() {
  pending -= static_cast<int64_t>(work_.size());
  begin_ = end();
  work_.clear();
}

void Queue::run_or_keep_failure() noexcept {
  try {
    run();
  } catch (...) {
    failure_ = std::current_exception();
    ++pending;
  }
}

bool any_queue_captures() {
  const std::lock_guard lock(registry().mutex);
  return std::ranges::any_of(registry().queues, [](const Queue* q) { return q->captures(); });
}

void finish_all_queues() {
  if (pending == 0) {
    return;
  }
  const std::lock_guard lock(registry().mutex);
  for (Queue* queue : registry().queues) {
    queue->run();
  }
}

void finish_all_queues_later() noexcept {
  if (pending == 0) {
    return;
  }
  const std::lock_guard lock(registry().mutex);
  for (Queue* queue : registry().queues) {
    queue->run_or_keep_failure();
  }
}

}  // namespace stemfabric::simt
