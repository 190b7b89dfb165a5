// A fixed set of worker threads that share numbered tasks. Which thread runs a task is not
// determined; what a task computes must depend on its number alone. Results are then the same for
// any number of threads.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace stemfabric {

class ThreadPool {
 public:
  // threads >= 1 counts the calling thread; 0 means available_cores().
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;

  // Runs body(task) for task = 0 … tasks-1 and waits. body may throw: the first exception is
  // rethrown here after all started tasks have ended. Not reentrant: a body must not call run();
  // one thread at a time may call it.
  template <typename Body>
  void run(int64_t tasks, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    run_erased(
        tasks, [](void* context, int64_t task) { (*static_cast<Plain*>(context))(task); },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

 private:
  using Invoke = void (*)(void*, int64_t);
  void run_erased(int64_t tasks, Invoke invoke, void* body);
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace stemfabric
