// The work of one stream of the device that the executor stands in for: kernels, copies, fills and
// what stands in for a GPU's library. It waits here, in order, until somebody waits for it, so that
// code that does not wait when it must gets wrong results every time.
#pragma once

#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <optional>
#include <vector>

namespace stemfabric {
class Stream;
}

namespace stemfabric::simt {

class Queue {
 public:
  using Work = std::function<void()>;

  Queue();
  ~Queue();  // runs what is left
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  // That of a stream, whose native() it is.
  static Queue& of(const Stream& stream);

  void push(Work work);
  // From the first to the second, work that is pushed is not queued but given to the caller.
  void begin_capture();
  std::vector<Work> end_capture();
  bool captures() const { return captured_.has_value(); }
  // How much work was ever pushed: a place in the queue.
  int64_t end() const { return begin_ + static_cast<int64_t>(work_.size()); }
  // Runs the work before a place that has not run yet. What it throws is thrown here, once, and the
  // rest of the queue is dropped.
  void run_until(int64_t place);
  void run() { run_until(end()); }

 private:
  friend void finish_all_queues_later() noexcept;
  void run_or_keep_failure() noexcept;
  void drop_rest();

  std::deque<Work> work_;
  int64_t begin_ = 0;           // the place of work_.front()
  std::exception_ptr failure_;  // of work that ran where nothing could be thrown
  std::optional<std::vector<Work>> captured_;
};

// Does any queue capture? No memory can be had from the device then.
bool any_queue_captures();

// Runs the work of all queues, as cudaDeviceSynchronize does.
void finish_all_queues();
// The same where nothing may be thrown (memory is given back): a failure is thrown when its queue
// is next waited for.
void finish_all_queues_later() noexcept;

}  // namespace stemfabric::simt
