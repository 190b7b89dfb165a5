// The matrix products that the linear ops are made of on a GPU. cuBLASLt computes them
// (matmul_cuda.cpp); under the SIMT executor, which cannot run a library's kernels, the CPU's
// products stand in (kernels/simt/matmul_simt.cpp).
//
//   C[m,n] (+)= Σ_k A[m,k] · B[k,n]  (+ bias[n], then max(·, 0) if relu)
//   b_column_sum[n] = Σ_k B[k,n]
//
// and the same for `batch` products, whose matrices and vectors lie *_step elements apart.
//
// Row-major matrices with any row stride >= their width; `transposed` says that the memory holds
// the transpose. m, n, k >= 1. bias and relu do not go with accumulate, b_column_sum not with a
// transposed B, nor with a bf16 C. All pointers are device memory.
//
// A and B are f32 or bf16, both the same; C and the bias are f32, or bf16 where A and B are. Sums
// are float32; C is rounded after bias and ReLU.
#pragma once

#include <cstdint>

#include "runtime/core/dtype.h"
#include "runtime/device/execution_context.h"

namespace stemfabric::cuda {

struct MatmulOperand {
  const void* data = nullptr;
  int64_t stride = 0;
  bool transposed = false;
  int64_t step = 0;
};

struct MatmulArgs {
  int64_t batch = 1;
  int64_t m = 0, n = 0, k = 0;
  DType dtype = DType::kF32;  // of a and b
  MatmulOperand a, b;
  DType c_dtype = DType::kF32;  // of c and bias
  void* c = nullptr;
  int64_t c_stride = 0, c_step = 0;
  bool accumulate = false;
  const void* bias = nullptr;  // [n]
  bool relu = false;
  // [m, relu_mask_bytes(n)]: written with relu, read with relu_gradient (C = 0 where the bit is 0).
  void* relu_mask = nullptr;
  bool relu_gradient = false;
  float* b_column_sum = nullptr;  // [n]
  int64_t vector_step = 0;        // of bias or b_column_sum
};

// What was done along with the product. What was not (no algorithm of the library does it at this
// shape) is left to the caller.
struct MatmulDone {
  bool epilogue = false;   // bias, relu, relu_gradient and b_column_sum
  bool relu_mask = false;  // written
};
MatmulDone matmul(const ExecutionContext& ctx, const MatmulArgs& args);

}  // namespace stemfabric::cuda
