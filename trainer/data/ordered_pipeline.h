// Produce, work in parallel, consume in order: items pass through a window of fixed size, so memory
// does not depend on how many there are, and results not on the number of threads.
#pragma once

#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace stemfabric {

// `Item` is reused: produce() refills the one it is given.
template <typename Item>
class OrderedPipeline {
 public:
  // threads >= 1. With one, all runs on the calling thread.
  explicit OrderedPipeline(int threads)
      : threads_(threads), slots_(threads > 1 ? 2 * static_cast<std::size_t>(threads) + 2 : 1) {}

  // produce(Item&) -> bool (false: no more) and consume(Item&) run on the calling thread, in order;
  // work(Item&, worker) on worker 0 … threads-1. The first exception in item order is rethrown.
  template <typename Produce, typename Work, typename Consume>
  void run(Produce&& produce, Work&& work, Consume&& consume) {
    if (threads_ <= 1) {
      while (produce(slots_[0].item)) {
        work(slots_[0].item, 0);
        consume(slots_[0].item);
      }
      return;
    }
    std::vector<std::jthread> workers;
    const Stopper stopper{*this};  // before the workers are joined, whatever happens
    workers.reserve(static_cast<std::size_t>(threads_));
    for (int worker = 0; worker < threads_; ++worker) {
      workers.emplace_back([this, &work, worker] { work_loop(work, worker); });
    }
    feed(produce, consume);
    stopper.stop();
  }

 private:
  enum class Stage : unsigned char { kFree, kProduced, kDone };
  struct Slot {
    Item item;
    Stage stage = Stage::kFree;
    std::exception_ptr error;
  };
  struct Stopper {
    OrderedPipeline& pipeline;
    void stop() const {
      const std::lock_guard lock(pipeline.mutex_);
      pipeline.stop_ = true;
      pipeline.produced_event_.notify_all();
    }
    ~Stopper() { stop(); }
  };

  Slot& slot(std::size_t sequence) { return slots_[sequence % slots_.size()]; }

  template <typename Produce, typename Consume>
  void feed(Produce& produce, Consume& consume) {
    bool more = true;
    std::size_t consumed = 0;
    std::unique_lock lock(mutex_);
    while (more || consumed < produced_) {
      Slot& oldest = slot(consumed);
      if (consumed < produced_ && oldest.stage == Stage::kDone) {
        if (oldest.error) {
          std::rethrow_exception(oldest.error);
        }
        lock.unlock();
        consume(oldest.item);
        lock.lock();
        oldest.stage = Stage::kFree;
        ++consumed;
      } else if (more && produced_ - consumed < slots_.size()) {
        lock.unlock();
        more = produce(slot(produced_).item);
        lock.lock();
        if (more) {
          slot(produced_).stage = Stage::kProduced;
          ++produced_;
          produced_event_.notify_one();
        }
      } else {
        done_event_.wait(lock);
      }
    }
  }

  template <typename Work>
  void work_loop(Work& work, int worker) {
    std::unique_lock lock(mutex_);
    for (;;) {
      produced_event_.wait(lock, [this] { return stop_ || taken_ < produced_; });
      if (stop_) {
        return;
      }
      Slot& mine = slot(taken_++);
      lock.unlock();
      try {
        work(mine.item, worker);
      } catch (...) {
        mine.error = std::current_exception();
      }
      lock.lock();
      mine.stage = Stage::kDone;
      done_event_.notify_one();
    }
  }

  int threads_;
  std::vector<Slot> slots_;
  std::mutex mutex_;
  std::condition_variable produced_event_;
  std::condition_variable done_event_;
  std::size_t produced_ = 0;
  std::size_t taken_ = 0;
  bool stop_ = false;
};

}  // namespace stemfabric
