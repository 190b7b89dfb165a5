// Times single calls on a context's device with events of its stream, each call with none of its
// data in the caches: what a GPU's work takes, without the time to launch it. The same on the CPU,
// whose events are time stamps.
#pragma once

#include <functional>

#include "runtime/device/execution_context.h"
#include "runtime/memory/buffer.h"

namespace stemfabric::benchmarks {

class ColdTimer {
 public:
  explicit ColdTimer(const ExecutionContext& ctx);
  // `run` queues work on the context's stream.
  double seconds_of(const std::function<void()>& run);

 private:
  void flush_caches();
  const ExecutionContext& ctx_;
  Buffer area_, part_;
};

}  // namespace stemfabric::benchmarks
