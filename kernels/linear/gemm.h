// Matrix product in float32 with fused epilogues: C (+)= A · B. What the linear ops are made of.
//
//   acc[m,n] = Σ_k A[m,k] · B[k,n]                (+ C[m,n] if accumulate)
//   forward epilogue:   v = acc + bias[n] + row_bias[m mod P],  pre[m,n] = v,  C[m,n] = act(v)
//   gradient epilogue:  C[m,n] = acc · gate'(saved[m,n])
//
// A matrix is row-major with any row stride >= its width; `transposed` says that the memory holds
// the transpose. Absent parts of the epilogue are null pointers. C must not overlap any input.
// Any size may be 0; with k = 0 the products are 0 and the epilogue still runs.
//
// Deterministic: each element of C is a chain of fused multiply-adds over k in order, in blocks of
// kGemmBlockK whose sums are added in order. Threads share out tiles of C, never k, so the result
// does not depend on their number. (It does depend on the SIMD level: SSE2 has no fused
// multiply-add.) Structure: Goto & van de Geijn, "Anatomy of High-Performance Matrix
// Multiplication", 2008.
#pragma once

#include <cstdint>

#include "kernels/activation/activation.h"
#include "runtime/device/execution_context.h"

namespace stemfabric {

inline constexpr int64_t kGemmBlockK = 256;

struct GemmOperand {
  const float* data = nullptr;
  int64_t stride = 0;  // elements between two rows in memory
  bool transposed = false;
};

struct GemmEpilogue {
  const float* bias = nullptr;      // [n]
  const float* row_bias = nullptr;  // [row_bias_period, n]
  int64_t row_bias_stride = 0;
  int64_t row_bias_period = 1;
  float* pre_activation = nullptr;  // [m, n]
  int64_t pre_activation_stride = 0;
  Activation activation = Activation::kNone;
  Activation gate = Activation::kNone;  // the activation whose derivative at `saved` multiplies
  const float* saved = nullptr;         // [m, n]
  int64_t saved_stride = 0;
  QuantumCoefficients quantum;
};

struct GemmArgs {
  int64_t m = 0, n = 0, k = 0;
  GemmOperand a;  // [m, k]
  GemmOperand b;  // [k, n]
  float* c = nullptr;
  int64_t c_stride = 0;
  bool accumulate = false;
  GemmEpilogue epilogue;
  float* b_column_sum = nullptr;  // [n], += Σ_k B[k,n]; only if B is not transposed
};

// CPU only. Scratch: packed B (at most 4 MiB, or kGemmBlockK · n floats if that is more) and about
// 100 KiB for each thread.
void gemm(const ExecutionContext& ctx, const GemmArgs& args);

}  // namespace stemfabric
