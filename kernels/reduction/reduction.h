// Reductions with a fixed order: the same bits for any number of threads.
//
//   sum_squares_into   result = (Σ x² of the finite elements, the number of NaN or infinite ones,
//                      the index of the first of these or −1), all three as float64
//   sum_squares        the same, handed to the host: waits for the device
//   column_sum    out[p, :] += Σ_{m ≡ p (mod P)} x[m, :]
//                 P = 1 gives a bias gradient, P = T that of a position table
//
//   tensor                | shape  | dtype       | written | note
//   x of sum_squares      | [n]    | f32         |         | contiguous
//   result                | [3]    | f64         | =       | contiguous
//   x of column_sum       | [M, N] | f32 or bf16 |         | rows may be strided (last stride 1)
//   out                   | [P, N] | f32         | +=      | contiguous
// Sums in float64. Deterministic.
#pragma once

#include "runtime/core/tensor_view.h"
#include "runtime/device/execution_context.h"

namespace stemfabric {

struct SumSquares {
  double sum = 0;  // of the finite elements
  int64_t non_finite = 0;
  int64_t first_non_finite = -1;  // index, -1 if there is none
};
// A result that was copied to the host.
SumSquares sum_squares_of(const double (&result)[3]);

struct SumSquaresArgs {
  ConstTensorView x;
  TensorView result;
};
void sum_squares_into(const ExecutionContext& ctx, const SumSquaresArgs& args);
SumSquares sum_squares(const ExecutionContext& ctx, const ConstTensorView& x);

struct ColumnSumArgs {
  ConstTensorView x;
  TensorView out;
};
void column_sum(const ExecutionContext& ctx, const ColumnSumArgs& args);

}  // namespace stemfabric
