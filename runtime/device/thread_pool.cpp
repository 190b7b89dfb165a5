#include "runtime/device/thread_pool.h"

#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/core/check.h"
#include "runtime/device/device.h"

namespace stemfabric {
namespace {

// Workers look for new work this long before they sleep: longer than the gap between two ops of a
// training step, shorter than anything a person or another process notices.
constexpr auto kSpin = std::chrono::microseconds(100);

void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

struct ThreadPool::State {
  std::vector<std::thread> workers;
  // Work: published by a new value of `generation`, after the fields above it are written.
  Invoke invoke = nullptr;
  void* body = nullptr;
  int64_t tasks = 0;
  std::atomic<int64_t> next{0};
  std::atomic<int> busy{0};
  std::atomic<uint32_t> generation{0};
  std::atomic<bool> stopping{false};
  std::atomic<bool> running{false};
  std::mutex error_mutex;
  std::exception_ptr error;

  void work() {
    for (int64_t task = next.fetch_add(1, std::memory_order_relaxed); task < tasks;
         task = next.fetch_add(1, std::memory_order_relaxed)) {
      try {
        invoke(body, task);
      } catch (...) {
        const std::lock_guard lock(error_mutex);
        if (!error) {
          error = std::current_exception();
        }
        next.store(tasks, std::memory_order_relaxed);
      }
    }
  }

  void worker_loop() {
    uint32_t seen = 0;
    while (true) {
      const auto spin_until = std::chrono::steady_clock::now() + kSpin;
      while (generation.load(std::memory_order_acquire) == seen) {
        if (std::chrono::steady_clock::now() < spin_until) {
          pause_cpu();
        } else {
          generation.wait(seen, std::memory_order_acquire);
        }
      }
      seen = generation.load(std::memory_order_acquire);
      if (stopping.load(std::memory_order_acquire)) {
        return;
      }
      work();
      if (busy.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        busy.notify_all();
      }
    }
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  const int count = threads > 0 ? threads : available_cores();
  for (int i = 1; i < count; ++i) {
    state_->workers.emplace_back([this] { state_->worker_loop(); });
  }
}

ThreadPool::~ThreadPool() {
  state_->stopping.store(true, std::memory_order_release);
  state_->generation.fetch_add(1, std::memory_order_release);
  state_->generation.notify_all();
  for (auto& worker : state_->workers) {
    worker.join();
  }
}

int ThreadPool::threads() const { return static_cast<int>(state_->workers.size()) + 1; }

void ThreadPool::run_erased(int64_t tasks, Invoke invoke, void* body) {
  if (tasks <= 0) {
    return;
  }
  State& s = *state_;
  SF_CHECK(!s.running.exchange(true), "ThreadPool::run called inside or beside another run");
  s.invoke = invoke;
  s.body = body;
  s.tasks = tasks;
  s.error = nullptr;
  s.next.store(0, std::memory_order_relaxed);
  const bool shared = tasks > 1 && !s.workers.empty();
  if (shared) {
    s.busy.store(static_cast<int>(s.workers.size()), std::memory_order_relaxed);
    s.generation.fetch_add(1, std::memory_order_release);
    s.generation.notify_all();
  }
  s.work();
  if (shared) {
    const auto spin_until = std::chrono::steady_clock::now() + kSpin;
    for (int left = s.busy.load(std::memory_order_acquire); left != 0;
         left = s.busy.load(std::memory_order_acquire)) {
      if (std::chrono::steady_clock::now() < spin_until) {
        pause_cpu();
      } else {
        s.busy.wait(left, std::memory_order_acquire);
      }
    }
  }
  s.running.store(false);
  if (s.error) {
    std::rethrow_exception(std::exchange(s.error, nullptr));
  }
}

}  // namespace stemfabric
