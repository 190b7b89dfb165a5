// Copies from memory to shared memory that run while their thread goes on (cp.async, sm_80 and up).
#pragma once

#include "kernels/common/launch.cuh"

namespace stemfabric {

// 16 bytes between aligned addresses, or zeros; then `from` is not read.
__device__ __forceinline__ void copy_async16(void* to, const void* from, bool read) {
#if SF_SIMT
  simt::async_copy(to, from, read ? 16 : 0, 16);
#else
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  const int bytes = read ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(bytes)
               : "memory");
#endif
}

// Waits for all copies of this thread. Those of others: a barrier after it.
__device__ __forceinline__ void wait_for_copies() {
#if SF_SIMT
  simt::async_commit();
  simt::async_wait(0);
#else
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

}  // namespace stemfabric
