// Products and sums whose rounding must not depend on the compiler.
#pragma once

#include "kernels/common/launch.cuh"

namespace stemfabric {

// a b and a b + c, rounded once each, on a GPU: left to the compiler, whether a product is fused
// with a sum depends on what else the kernel does with it, and two kernels, or a kernel and the
// CPU, would not give the same bits.
__device__ __forceinline__ float multiply(float a, float b) {
#if SF_SIMT
  return a * b;
#else
  return __fmul_rn(a, b);
#endif
}
__device__ __forceinline__ float multiply_add(float a, float b, float c) {
#if SF_SIMT
  return a * b + c;
#else
  return __fmaf_rn(a, b, c);
#endif
}

}  // namespace stemfabric
