// Where an op runs: every op validates its arguments once and then calls
//   SF_DISPATCH(ctx, residual_norm_forward, args);
// which is cpu::residual_norm_forward or cuda::residual_norm_forward by the context's device.
#pragma once

#include "runtime/core/check.h"
#include "runtime/device/execution_context.h"

#if SF_HAVE_CUDA || SF_SIMT
#define SF_DISPATCH(ctx, op, args) ((ctx).is_cpu() ? cpu::op(ctx, args) : cuda::op(ctx, args))
#else
#define SF_DISPATCH(ctx, op, args) (::stemfabric::require_cpu(ctx, #op), cpu::op(ctx, args))
#endif

namespace stemfabric {

// Throws a DeviceError unless the context is the CPU's.
inline void require_cpu(const ExecutionContext& ctx, const char* op) {
  if (!ctx.is_cpu()) [[unlikely]] {
    throw DeviceError("{} has no CUDA implementation in this build; run on the CPU instead of {}",
                      op, ctx.device().to_string());
  }
}

}  // namespace stemfabric
