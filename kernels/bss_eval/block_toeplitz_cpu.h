// Cholesky factorisation of symmetric block Toeplitz matrices in float64 by the generalised Schur
// algorithm: O(p·n²) operations for n = p·m unknowns where a dense factorisation takes n³/3.
//
//   A[(i,k),(i',k')] = B_{i−i'}[k,k'],  i, i' < m,  k, k' < p,  B_{−l} = B_lᵀ
//   A + load · I = L Lᵀ
// A = Z A Zᵀ + U Uᵀ − V Vᵀ, where Z moves everything down by one block and U and V have p columns:
// the first block column of L is U. Moved down by one block it is U of what is left of the matrix;
// then p Householder reflections of V's columns and p hyperbolic rotations of a column of each make
// the topmost block of V zero, and that U is the next block column of L. The rotations are applied
// in their mixed form, which makes the algorithm as stable as Cholesky's (Bojanczyk, Brent, van
// Dooren, de Hoog 1987; Chandrasekaran & Sayed, "Stabilizing the generalized Schur algorithm",
// 1996).
//
// Deterministic: rows are independent of each other, so no bit depends on the number of threads.
#pragma once

#include <cstdint>

#include "runtime/device/thread_pool.h"

namespace stemfabric::cpu {

class BlockToeplitz {
 public:
  // Doubles that the factor needs: about n²/2.
  static int64_t factor_size(int64_t p, int64_t m) { return p * p * m * (m + 1) / 2; }
  static int64_t scratch_size(int64_t p, int64_t m) { return p * p * m + 3 * p * p + 4 * p; }

  // `factor` and `scratch` must outlive this object.
  BlockToeplitz(int64_t p, int64_t m, double* factor, double* scratch)
      : p_(p), m_(m), factor_(factor), scratch_(scratch) {}

  // blocks: B_l[k,k'] at (k·p + k')·m + l; of B_0 the lower triangle is read. False if
  // A + load·I is not positive definite to working precision. threads may be null.
  bool factorise(const double* blocks, double load, ThreadPool* threads);
  // Solves (L Lᵀ) x = b in place; element (i,k) at i·p + k. pivots: scratch, [columns, p].
  void solve(double* x, int64_t columns, int64_t column_stride, double* pivots) const;

 private:
  // Block column i of L: p columns of n − i·p rows each, the rows from i·p on.
  double* column(int64_t i) const { return factor_ + p_ * p_ * (i * m_ - i * (i - 1) / 2); }
  bool first_column(const double* blocks, double load);

  int64_t p_, m_;
  double *factor_, *scratch_;
};

}  // namespace stemfabric::cpu
