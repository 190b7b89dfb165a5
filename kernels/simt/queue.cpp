#include "kernels/simt/queue.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <utility>

#include "kernels/simt/executor.h"
#include "runtime/core/check.h"
#include "runtime/device/stream.h"

namespace stemfabric::simt {
namespace {

// Never destroyed: queues may outlive every other static object.
struct Registry {
  std::mutex mutex;
  std::vector<Queue*> queues;
};
Registry& registry() {
  static auto* const registry = new Registry;
  return *registry;
}

std::vector<Queue*> queues_of_this_thread() {
  const std::lock_guard lock(registry().mutex);
  std::vector<Queue*> mine;
  std::ranges::copy_if(registry().queues, std::back_inserter(mine),
                       [](const Queue* queue) { return queue->belongs_to_this_thread(); });
  return mine;
}

// Work that is queued and failures that were not thrown yet, of all queues: tests ask before every
// element they read.
std::atomic<int64_t> pending = 0;

// The queues of this thread whose work runs now: one may ask for another's, which may ask for the
// first one's.
struct Running {
  explicit Running(const Queue* queue) : queue_(queue), outer_(innermost) { innermost = this; }
  ~Running() { innermost = outer_; }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;
  static bool has(const Queue* queue) {
    const Running* now = innermost;
    while (now != nullptr && now->queue_ != queue) {
      now = now->outer_;
    }
    return now != nullptr;
  }

 private:
  static thread_local Running* innermost;
  const Queue* queue_;
  Running* outer_;
};
thread_local Running* Running::innermost = nullptr;

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

void Queue::push(const Work& work) {
  push_attempt([work] {
    work();
    return true;
  });
}

void Queue::push_attempt(Attempt attempt) {
  if (capture_) {
    capture_piece([queue = shared_from_this(), attempt = std::move(attempt)] {
      queue->push_attempt(attempt);
    });
    return;
  }
  work_.push_back(std::move(attempt));
  ++pending;
}

void Queue::follow(Queue& other) {
  if (!capture_) {
    capture_ = other.capture_;
  }
  SF_CHECK(capture_ == other.capture_, "captured work would follow work that is not captured");
  if (capture_) {
    capture_->members.insert(this);
    capture_piece([queue = shared_from_this(), followed = other.shared_from_this()] {
      queue->follow(*followed);
    });
    capture_->unjoined.erase(&other);
    return;
  }
  // The other queue goes as far as it can: what it does not wait for may come too early.
  push_attempt([followed = other.shared_from_this(), place = other.end()] {
    return followed->advance(followed->end()) || followed->advance(place);
  });
}

void Queue::capture_piece(std::function<void()> piece) {
  capture_->work.push_back(std::move(piece));
  if (this != capture_->origin) {
    capture_->unjoined.insert(this);
  }
}

void Queue::begin_capture() {
  SF_CHECK(!capture_, "work is captured already");
  capture_ = std::make_shared<Capture>();
  capture_->origin = this;
  capture_->members = {this};
}

Queue::Captured Queue::end_capture() {
  SF_CHECK(capture_ && capture_->origin == this, "no work is captured");
  const std::shared_ptr<Capture> capture = capture_;
  abandon_capture();
  SF_CHECK(capture->unjoined.empty(), "work of another stream was captured and not followed");
  return std::move(capture->work);
}

void Queue::abandon_capture() {
  for (Queue* member : std::exchange(capture_->members, {})) {
    member->capture_.reset();
  }
}

bool Queue::advance(int64_t place) {
  if (Running::has(this)) {
    return begin_ - 1 >= place;  // all but the work that asks
  }
  if (failure_) {
    drop_rest();
    --pending;
    std::rethrow_exception(std::exchange(failure_, nullptr));
  }
  if (begin_ >= place) {
    return true;
  }
  const DeviceWork device_work;
  const Running now(this);
  while (begin_ < place) {
    Attempt attempt = std::move(work_.front());
    work_.pop_front();
    ++begin_;
    --pending;
    try {
      if (attempt()) {
        continue;
      }
    } catch (...) {
      drop_rest();
      throw;
    }
    work_.push_front(std::move(attempt));
    --begin_;
    ++pending;
    return false;
  }
  return true;
}

void Queue::run_until(int64_t place) {
  while (!advance(place)) {
    std::this_thread::sleep_for(std::chrono::microseconds(20));
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
  return std::ranges::any_of(queues_of_this_thread(),
                             [](const Queue* queue) { return queue->captures(); });
}

void finish_all_queues() {
  if (pending == 0) {
    return;
  }
  for (Queue* queue : queues_of_this_thread()) {
    queue->run();
  }
}

void finish_all_queues_later() noexcept {
  if (pending == 0) {
    return;
  }
  for (Queue* queue : queues_of_this_thread()) {
    queue->run_or_keep_failure();
  }
}

}  // namespace stemfabric::simt
