// For the entry of an op that has only a CPU implementation so far.
#pragma once

#include "runtime/core/check.h"
#include "runtime/device/execution_context.h"

namespace stemfabric {

// Throws a DeviceError unless the context is the CPU's.
inline void require_cpu(const ExecutionContext& ctx, const char* op) {
  if (!ctx.is_cpu()) [[unlikely]] {
    throw DeviceError("{} has no CUDA implementation in this build; run on the CPU instead of {}",
                      op, ctx.device().to_string());
  }
}

}  // namespace stemfabric
