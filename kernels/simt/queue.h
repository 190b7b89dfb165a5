// The work of one stream of the device that the executor stands in for: kernels, copies, fills and
// what stands in for a GPU's library. It waits here, in order, until somebody waits for it, so that
// code that does not wait when it must gets wrong results every time.
//
// A queue belongs to the thread that made it. Threads with queues of their own are several devices:
// what a device does for all its queues (memory that is given back, captures) is that of a
// thread's.
#pragma once

#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <set>
#include <thread>
#include <vector>

namespace stemfabric {
class Stream;
}

namespace stemfabric::simt {

class Queue : public std::enable_shared_from_this<Queue> {
 public:
  using Work = std::function<void()>;
  // Work that may depend on another device: false if it has to be tried again, later.
  using Attempt = std::function<bool()>;
  // Work of one or more queues, in the order in which it was captured: each puts a piece on its
  // queue.
  using Captured = std::vector<std::function<void()>>;

  Queue();
  ~Queue();  // runs what is left
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  // That of a stream, whose native() it is.
  static Queue& of(const Stream& stream);

  void push(const Work& work);
  void push_attempt(Attempt attempt);
  // Later work comes after all that another queue holds now, and is captured with it.
  void follow(Queue& other);
  // From the first to the second, work that is pushed is not queued but given to the caller, with
  // that of queues that followed; each of those must have been followed in turn since its last
  // work.
  void begin_capture();
  Captured end_capture();
  void abandon_capture();
  bool captures() const { return capture_ != nullptr; }
  // How much work was ever pushed: a place in the queue.
  int64_t end() const { return begin_ + static_cast<int64_t>(work_.size()); }
  // Runs the work before a place that has not run yet, as far as it goes without waiting; whether
  // that was all. What it throws is thrown here, once, and the rest of the queue is dropped.
  bool advance(int64_t place);
  void run_until(int64_t place);  // all of it
  void run() { run_until(end()); }
  bool belongs_to_this_thread() const { return owner_ == std::this_thread::get_id(); }

 private:
  friend void finish_all_queues_later() noexcept;
  struct Capture {
    Queue* origin;
    Captured work;
    std::set<Queue*> members, unjoined;
  };
  void run_or_keep_failure() noexcept;
  void drop_rest();
  void capture_piece(std::function<void()> piece);

  const std::thread::id owner_ = std::this_thread::get_id();
  std::deque<Attempt> work_;
  int64_t begin_ = 0;           // the place of work_.front()
  std::exception_ptr failure_;  // of work that ran where nothing could be thrown
  std::shared_ptr<Capture> capture_;
};

// Does any queue capture? No memory can be had from the device then.
bool any_queue_captures();

// Runs the work of all queues of this thread, as cudaDeviceSynchronize does.
void finish_all_queues();
// The same where nothing may be thrown (memory is given back): a failure is thrown when its queue
// is next waited for.
void finish_all_queues_later() noexcept;

}  // namespace stemfabric::simt
