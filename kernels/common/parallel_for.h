// Splits [0, n) into blocks of a fixed size and runs them on the context's threads.
// The split depends on n and block alone, never on the number of threads, so a reduction that adds
// the blocks' partial results in order gives the same bits on any machine.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "runtime/device/execution_context.h"

namespace stemfabric {

// body(begin, end, block_index)
template <typename Body>
void parallel_for(const ExecutionContext& ctx, int64_t n, int64_t block, Body&& body) {
  const int64_t blocks = (n + block - 1) / block;
  ctx.threads().run(blocks, [&](int64_t i) { body(i * block, std::min(n, (i + 1) * block), i); });
}

// Tasks that need scratch memory of their own: body(task, slot), where no two tasks that run at the
// same time see the same slot. Slots are 0 … scratch_slots(ctx, tasks) - 1. Which slot a task gets
// is not determined, so nothing may be carried from one task to the next in it.
inline int64_t scratch_slots(const ExecutionContext& ctx, int64_t tasks) {
  return std::min<int64_t>(ctx.threads().threads(), tasks);
}
template <typename Body>
void parallel_tasks(const ExecutionContext& ctx, int64_t tasks, Body&& body) {
  std::atomic<int64_t> next{0};
  ctx.threads().run(scratch_slots(ctx, tasks), [&](int64_t slot) {
    for (int64_t task = next.fetch_add(1); task < tasks; task = next.fetch_add(1)) {
      body(task, slot);
    }
  });
}

}  // namespace stemfabric
