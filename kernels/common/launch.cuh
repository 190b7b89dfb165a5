// The one way to launch a kernel, and the device language it is written in: CUDA's under nvcc, the
// executor's (kernels/simt/simt.h) under g++ in test builds.
//
//   launch(ctx, {.kernel = "softmax_kernel", .grid = blocks, .block = 128}, softmax_kernel<float>,
//   p);
//
// Arguments are passed by value. Launches are asynchronous. An error that a launch or an earlier
// kernel left is thrown as a DeviceError that names the kernel; with STEMFABRIC_SYNC_LAUNCHES=1
// every launch waits for its kernel, so that the kernel named is the one at fault.
#pragma once

#include <cstddef>
#include <type_traits>

#include "runtime/device/execution_context.h"

#if SF_SIMT
#include "kernels/simt/executor.h"
#include "kernels/simt/queue.h"
#else
#include <cuda_runtime.h>

#include "runtime/device/device_cuda.h"
#endif

// Before a loop whose count is known: unroll it, so that its arrays stay in registers; or four
// rounds at a time, so that loads run ahead and the code stays small; or not at all, so that its
// rounds share their registers.
#if SF_SIMT
#define SF_UNROLL
#define SF_UNROLL_4
#define SF_NO_UNROLL
#else
#define SF_UNROLL _Pragma("unroll")
#define SF_UNROLL_4 _Pragma("unroll 4")
#define SF_NO_UNROLL _Pragma("unroll 1")
#endif

namespace stemfabric {

struct LaunchConfig {
  const char* kernel;  // name, for errors and profiles
  dim3 grid, block;
  std::size_t dynamic_shared_bytes = 0;
};

// An unsigned grid size from a count; InternalError beyond CUDA's limit.
inline unsigned grid_size(int64_t blocks) {
  SF_CHECK(blocks >= 0 && blocks <= 0x7FFFFFFF, "a grid of {} blocks", blocks);
  return static_cast<unsigned>(blocks);
}
inline int64_t ceil_div(int64_t n, int64_t d) { return (n + d - 1) / d; }

// A grid without blocks launches nothing.
template <typename... Parameters>
void launch(const ExecutionContext& ctx, const LaunchConfig& config, void (*kernel)(Parameters...),
            std::type_identity_t<Parameters>... arguments) {
  if (config.grid.x == 0 || config.grid.y == 0 || config.grid.z == 0) {
    return;
  }
#if SF_SIMT
  (simt::check_argument(config.kernel, arguments), ...);
  simt::Queue::of(ctx.stream())
      .push([launch = simt::Launch{config.kernel, config.grid, config.block,
                                   config.dynamic_shared_bytes},
             kernel, arguments...] { simt::run(launch, [&] { kernel(arguments...); }); });
#else
  void* pointers[] = {static_cast<void*>(&arguments)...};
  cuda::launch(ctx.stream(), config.kernel, reinterpret_cast<const void*>(kernel),
               {config.grid.x, config.grid.y, config.grid.z},
               {config.block.x, config.block.y, config.block.z}, pointers,
               config.dynamic_shared_bytes);
#endif
}

// Shared memory of a block as a struct; one per type and kernel, at most 48 KB.
//   auto& shared = shared_storage<Storage>();
template <typename Storage>
__device__ __forceinline__ Storage& shared_storage() {
#if SF_SIMT
  static const char key = 0;
  return *static_cast<Storage*>(simt::shared_memory(&key, sizeof(Storage), alignof(Storage)));
#else
  __shared__ alignas(alignof(Storage)) unsigned char memory[sizeof(Storage)];
  return *reinterpret_cast<Storage*>(memory);
#endif
}

// The bytes of LaunchConfig::dynamic_shared_bytes, 128-byte aligned.
__device__ __forceinline__ unsigned char* dynamic_shared() {
#if SF_SIMT
  return static_cast<unsigned char*>(simt::dynamic_shared_memory());
#else
  extern __shared__ __align__(128) unsigned char sf_dynamic_shared[];
  return sf_dynamic_shared;
#endif
}

}  // namespace stemfabric
