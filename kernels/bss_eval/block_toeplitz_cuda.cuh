// Cholesky factorisation and solution of symmetric block Toeplitz systems in float64, as
// block_toeplitz_cpu.h has it: the generalised Schur algorithm, one launch for each block column,
// and one for each block row of the two triangular solutions.
//
// What a step needs of all rows (its reflections and rotations, the solved unknowns of its block)
// every block of threads computes for itself from the p topmost rows, which no thread writes in
// that launch; then each thread goes on with a row of its own. So nothing waits for other blocks
// within a launch, and nothing depends on their order.
//
// Several systems of one size go through each launch together.
#pragma once

#include "kernels/bss_eval/bss_signals.cuh"

namespace stemfabric::cuda {

// Handed to kernels by value. System s has the references [first[s], first[s] + p) and estimates
// [s · columns, (s + 1) · columns).
struct BssSystems {
  int count = 0, p = 0, m = 0, columns = 0;
  int references = 0, estimates = 0;  // of `correlations`
  BssCorrelations correlations = {};
  int first[kMaxBssSignals] = {};

  // For each system. load: what times the mean of the diagonal is added to it; negative: the system
  // is left as it is. failed: 1 where what was last tried was not positive definite.
  double* load = nullptr;
  int* failed = nullptr;
  double* factor = nullptr;  // [factor_size()]
  double* v = nullptr;       // [p, n]: element (row, k) at k · n + row
  double* x = nullptr;       // [columns, n]: right-hand sides, then solutions: (i, k) at i · p + k
  double* y = nullptr;       // [columns, n]: between the two triangular solutions

  __host__ __device__ int64_t n() const { return int64_t{p} * m; }
  __host__ __device__ int64_t factor_size() const { return int64_t{p} * p * m * (m + 1) / 2; }
  // Block column i of the factor: p columns of n − i·p rows each, the rows from i·p on.
  __host__ __device__ int64_t rows(int64_t i) const { return n() - i * p; }
  __device__ double* column(int64_t system, int64_t i) const {
    return factor + system * factor_size() + int64_t{p} * p * (i * m - i * (i - 1) / 2);
  }
};

// Takes load, failed, factor, v, x and y from the scope.
void bss_take_memory(WorkspaceScope& scope, BssSystems& systems);
// One attempt at the systems whose load is not negative.
void bss_factorise(const ExecutionContext& ctx, const BssSystems& systems);
// Right-hand sides from the correlations, and x of all systems; undefined where `failed`.
void bss_solve(const ExecutionContext& ctx, const BssSystems& systems);

}  // namespace stemfabric::cuda
