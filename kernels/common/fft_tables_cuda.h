// The tables of fft_core.cuh, in an op's scratch memory.
#pragma once

#include "kernels/common/fft_core.cuh"
#include "runtime/memory/workspace.h"

namespace stemfabric::cuda {

// 12 bytes per point; one small kernel fills them on the context's stream.
DeviceFftTables device_fft_tables(const ExecutionContext& ctx, WorkspaceScope& scope,
                                  int64_t n_fft);

}  // namespace stemfabric::cuda
