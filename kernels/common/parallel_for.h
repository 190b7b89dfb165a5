// Splits [0, n) into blocks of a fixed size and runs them on the context's threads.
// The split depends on n and block alone, never on the number of threads, so a reduction that adds
// the blocks' partial results in order gives the same bits on any machine.
#pragma once

#include <algorithm>
#include <cstdint>

#include "runtime/device/execution_context.h"

namespace stemfabric {

// body(begin, end, block_index)
template <typename Body>
void parallel_for(const ExecutionContext& ctx, int64_t n, int64_t block, Body&& body) {
  const int64_t blocks = (n + block - 1) / block;
  ctx.threads().run(blocks, [&](int64_t i) { body(i * block, std::min(n, (i + 1) * block), i); });
}

}  // namespace stemfabric
