// Reductions with a fixed order: the same bits for any number of threads.
//
//   sum_squares     Σ x², in float64, and the number of NaN or infinite elements      x [n] f32
//   column_sum      out[p, :] += Σ_{m ≡ p (mod P)} x[m, :]                            x [M, N] f32
//   (rows
//                   may be strided), out [P, N] f32; P = 1 gives a bias gradient, P = T a position
//                   table's
#pragma once

#include "runtime/core/tensor_view.h"
#include "runtime/device/execution_context.h"

namespace stemfabric {

struct SumSquares {
  double sum = 0;  // of the finite elements
  int64_t non_finite = 0;
  int64_t first_non_finite = -1;  // index, -1 if there is none
};
SumSquares sum_squares(const ExecutionContext& ctx, const ConstTensorView& x);

struct ColumnSumArgs {
  ConstTensorView x;
  TensorView out;
};
void column_sum(const ExecutionContext& ctx, const ColumnSumArgs& args);

}  // namespace stemfabric
