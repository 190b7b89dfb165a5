#include "trainer/training/prefetch.h"

#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#include "runtime/core/check.h"

namespace stemfabric {

// A ring: slots [released, taken) belong to the consumer, [taken, filled) are ready, the rest is
// free. The counters only grow.
struct Prefetcher::State {
  State(const SampleSource& data, SampleStream samples)
      : source(data), stream(std::move(samples)) {}

  const SampleSource& source;
  SampleStream stream;
  std::vector<std::unique_ptr<SampleBatch>> ring;
  std::mutex mutex;
  std::condition_variable changed;
  std::size_t released = 0;
  std::size_t taken = 0;
  std::size_t filled = 0;
  bool stop = false;
  std::exception_ptr failure;
  std::thread thread;

  void fill(SampleBatch& batch) {
    const std::span<const int64_t> samples = stream.next();
    if (samples.empty()) {  // a share of the last micro-batch of an epoch
      batch.size = 0;
      batch.epoch = stream.epoch();
      batch.samples.clear();
    } else {
      source.fill(stream.epoch(), samples, batch);
    }
    batch.first_in_step = stream.first_in_step();
    batch.of_all_ranks = stream.of_all_ranks();
  }

  void fill_until_stopped() {
    for (;;) {
      {
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] { return stop || filled - released < ring.size(); });
        if (stop) {
          return;
        }
      }
      try {
        fill(*ring[filled % ring.size()]);
      } catch (...) {
        const std::lock_guard lock(mutex);
        failure = std::current_exception();
        changed.notify_all();
        return;
      }
      const std::lock_guard lock(mutex);
      ++filled;
      changed.notify_all();
    }
  }
};

Prefetcher::Prefetcher(const SampleSource& source, SampleStream stream, int64_t batch_size,
                       int64_t held, MemoryResource& memory)
    : state_(std::make_unique<State>(source, std::move(stream))) {
  const int64_t count = batches(held);
  state_->ring.reserve(static_cast<std::size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    state_->ring.push_back(source.make_batch(batch_size, memory));
  }
  state_->thread = std::thread([this] { state_->fill_until_stopped(); });
}

Prefetcher::~Prefetcher() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stop = true;
  }
  state_->changed.notify_all();
  state_->thread.join();
}

const SampleBatch& Prefetcher::next() {
  std::unique_lock lock(state_->mutex);
  SF_CHECK(state_->taken - state_->released < state_->ring.size(), "release() was not called");
  state_->changed.wait(lock, [&] { return state_->failure || state_->taken < state_->filled; });
  if (state_->taken == state_->filled) {
    std::rethrow_exception(state_->failure);
  }
  return *state_->ring[state_->taken++ % state_->ring.size()];
}

void Prefetcher::release() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->released = state_->taken;
  }
  state_->changed.notify_all();
}

void Prefetcher::release(std::size_t batches) {
  {
    const std::lock_guard lock(state_->mutex);
    SF_CHECK(batches <= state_->taken - state_->released, "{} batches given back, {} taken",
             batches, state_->taken - state_->released);
    state_->released += batches;
  }
  state_->changed.notify_all();
}

}  // namespace stemfabric
