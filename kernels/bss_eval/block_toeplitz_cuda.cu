#include "kernels/bss_eval/block_toeplitz_cuda.cuh"

#include <algorithm>
#include <cmath>

namespace stemfabric::cuda {
namespace {

constexpr int kThreads = 128;
static_assert(kMaxBssSignals <= kThreads);
constexpr int kColumns = 4;           // right-hand sides that a block solves for
constexpr int kMostInRegisters = 16;  // of a row of V

// Rows of small matrices in shared memory lie an odd number apart, so that threads with a row each
// do not meet in one bank.
__host__ __device__ constexpr int odd(int width) { return width | 1; }

// B_lag[k, k2] of a system.
__device__ __forceinline__ double block_element(const BssSystems& s, int64_t system, int64_t lag,
                                                int k, int k2) {
  const int row = s.first[system] + k;
  const int column = s.first[system] + k2;
  return s.correlations.gram[int64_t{row * s.references + column} * s.m + lag];
}

__device__ __forceinline__ int block_row() {
  return static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
}

struct FirstColumnStorage {
  double l[kMaxBssSignals * odd(kMaxBssSignals)];
  double diagonal[kMaxBssSignals];
};

// U = V = (B_0, B_1, …)ᵀ L_0^{−T} with B_0 + load I = L_0 L_0ᵀ.
__global__ void __launch_bounds__(kThreads) bss_first_column_kernel(BssSystems s) {
  const int64_t system = blockIdx.y;
  const double load = s.load[system];
  if (load < 0) {
    return;
  }
  auto& shared = shared_storage<FirstColumnStorage>();
  const int stride = odd(s.p);
  const auto self = static_cast<int>(threadIdx.x);
  double mean = 0;
  for (int k = 0; k < s.p; ++k) {
    mean += block_element(s, system, 0, k, k) / s.p;
  }
  if (self < s.p) {
    for (int c = 0; c <= self; ++c) {
      shared.l[self * stride + c] =
          block_element(s, system, 0, self, c) + (c == self ? load * mean : 0);
    }
  }
  __syncthreads();
  bool positive = true;
  for (int c = 0; c < s.p; ++c) {
    double pivot = shared.l[c * stride + c];
    for (int j = 0; j < c; ++j) {
      pivot -= shared.l[c * stride + j] * shared.l[c * stride + j];
    }
    positive = positive && pivot > 0;
    const double diagonal = sqrt(pivot);
    if (self == c) {
      shared.diagonal[c] = diagonal;
    } else if (self > c && self < s.p) {
      double* row = shared.l + self * stride;
      double sum = row[c];
      for (int j = 0; j < c; ++j) {
        sum -= row[j] * shared.l[c * stride + j];
      }
      row[c] = sum / diagonal;
    }
    __syncthreads();
  }
  if (blockIdx.x == 0 && self == 0) {
    s.failed[system] = positive ? 0 : 1;
  }
  const int64_t n = s.n();
  const int row = block_row();
  if (row >= n) {
    return;
  }
  double* l = s.column(system, 0) + row;
  double* v = s.v + system * s.p * n + row;
  for (int c = 0; c < s.p; ++c) {
    double value = 0;  // above the diagonal
    if (row >= s.p) {
      value = block_element(s, system, row / s.p, row % s.p, c);
      for (int j = 0; j < c; ++j) {
        value -= l[j * n] * shared.l[c * stride + j];
      }
      value /= shared.diagonal[c];
    } else if (row == c) {
      value = shared.diagonal[c];
    } else if (row > c) {
      value = shared.l[row * stride + c];
    }
    l[c * n] = value;
    v[c * n] = value;
  }
}

// For each r < p a reflection v −= scale[r] (v · w[r]) w[r] of the rows of V and then a rotation of
// u[r] and v[0], which make the topmost block of V zero.
struct SchurStep {
  int p, stride;
  double* u;       // [p, stride]: the topmost block of U
  double* w;       // [p, stride]: that of V, and then the reflections
  double* scale;   // [p]; 0: no reflection
  double* rho;     // [p]
  double* cosine;  // [p], sqrt(1 − rho²); not positive if the matrix is not positive definite
};

__host__ __device__ constexpr int step_doubles(int p, int width) {
  return 2 * p * odd(width) + 3 * p;
}

// Threads r < p have a row each; a row that is done is a reflection for those below.
__device__ __forceinline__ void find_step(const SchurStep& step) {
  const auto self = static_cast<int>(threadIdx.x);
  double* own_u = step.u + self * step.stride;
  double* own_v = step.w + self * step.stride;
  for (int r = 0; r < step.p; ++r) {
    if (self == r) {
      double squares = 0;
      for (int k = 0; k < step.p; ++k) {
        squares += own_v[k] * own_v[k];
      }
      const double first = own_v[0];
      const double norm = copysign(sqrt(squares), first);
      own_v[0] = first + norm;
      step.scale[r] = squares == 0 ? 0 : 2 / (squares - first * first + own_v[0] * own_v[0]);
      // The reflection leaves −norm in front and zeros behind it.
      const double rho = -norm / own_u[r];
      step.rho[r] = rho;
      step.cosine[r] = sqrt((1 - rho) * (1 + rho));
      own_u[r] = (own_u[r] + rho * norm) / step.cosine[r];
    }
    __syncthreads();
    if (self > r && self < step.p) {
      const double* w = step.w + r * step.stride;
      double product = 0;
      for (int k = 0; k < step.p; ++k) {
        product += own_v[k] * w[k];
      }
      product *= step.scale[r];
      for (int k = 0; k < step.p; ++k) {
        own_v[k] -= product * w[k];
      }
      own_u[r] = (own_u[r] - step.rho[r] * own_v[0]) / step.cosine[r];
      own_v[0] = step.cosine[r] * own_v[0] - step.rho[r] * own_u[r];
    }
  }
}

// One row of U and V at u[r · u_stride], v[k · v_stride]; the row of V in registers, padded with
// zeros to kP numbers.
template <int kP>
__device__ __forceinline__ void schur_row(const SchurStep& step, const double* u, int64_t u_stride,
                                          double* u_out, int64_t out_stride, double* v,
                                          int64_t v_stride) {
  double own[kP];
  SF_UNROLL
  for (int k = 0; k < kP; ++k) {
    own[k] = k < step.p ? v[k * v_stride] : 0.0;
  }
  SF_NO_UNROLL
  for (int r = 0; r < step.p; ++r) {
    const double* w = step.w + r * step.stride;
    double even = 0;
    double odd_sum = 0;
    SF_UNROLL
    for (int k = 0; k < kP; k += 2) {
      even += own[k] * w[k];
      odd_sum += own[k + 1] * w[k + 1];
    }
    const double product = (even + odd_sum) * step.scale[r];
    SF_UNROLL
    for (int k = 0; k < kP; ++k) {
      own[k] -= product * w[k];
    }
    const double rotated = (u[r * u_stride] - step.rho[r] * own[0]) / step.cosine[r];
    own[0] = step.cosine[r] * own[0] - step.rho[r] * rotated;
    u_out[r * out_stride] = rotated;
  }
  SF_UNROLL
  for (int k = 0; k < kP; ++k) {
    if (k < step.p) {
      v[k * v_stride] = own[k];
    }
  }
}

// The same for any p, with the row of V where it is.
template <>
__device__ __forceinline__ void schur_row<0>(const SchurStep& step, const double* u,
                                             int64_t u_stride, double* u_out, int64_t out_stride,
                                             double* v, int64_t v_stride) {
  for (int r = 0; r < step.p; ++r) {
    const double* w = step.w + r * step.stride;
    double product = 0;
    for (int k = 0; k < step.p; ++k) {
      product += v[k * v_stride] * w[k];
    }
    product *= step.scale[r];
    for (int k = 0; k < step.p; ++k) {
      v[k * v_stride] -= product * w[k];
    }
    const double rotated = (u[r * u_stride] - step.rho[r] * v[0]) / step.cosine[r];
    v[0] = step.cosine[r] * v[0] - step.rho[r] * rotated;
    u_out[r * out_stride] = rotated;
  }
}

// Block column i ≥ 1 of the factor from the one before, which is U once it has moved down by a
// block.
template <int kP>
__global__ void __launch_bounds__(kThreads) bss_schur_step_kernel(BssSystems s, int i) {
  const int64_t system = blockIdx.y;
  if (s.load[system] < 0) {
    return;
  }
  const int p = s.p;
  const int width = kP > 0 ? kP : p;
  const int stride = odd(width);
  auto* memory = reinterpret_cast<double*>(dynamic_shared());
  SchurStep step = {.p = p,
                    .stride = stride,
                    .u = memory,
                    .w = memory + p * stride,
                    .scale = memory + 2 * p * stride,
                    .rho = nullptr,
                    .cosine = nullptr};
  step.rho = step.scale + p;
  step.cosine = step.rho + p;

  const int64_t n = s.n();
  const int64_t rows = s.rows(i);
  const double* u = s.column(system, i - 1);
  const int64_t u_stride = s.rows(i - 1);
  double* u_out = s.column(system, i);
  double* v = s.v + system * p * n + int64_t{i} * p;
  for (int e = static_cast<int>(threadIdx.x); e < p * width; e += kThreads) {
    const int row = e / width;
    const int k = e % width;
    step.u[row * stride + k] = k < p ? u[k * u_stride + row] : 0.0;
    step.w[row * stride + k] = k < p ? v[k * n + row] : 0.0;
  }
  __syncthreads();
  find_step(step);
  if (blockIdx.x == 0) {
    for (int e = static_cast<int>(threadIdx.x); e < p * p; e += kThreads) {
      const int row = e % p;
      const int k = e / p;
      u_out[k * rows + row] = step.u[row * stride + k];  // zeros above the diagonal stay
    }
    if (threadIdx.x == 0) {
      bool positive = true;
      for (int r = 0; r < p; ++r) {
        positive = positive && step.cosine[r] > 0;
      }
      if (!positive) {
        s.failed[system] = 1;
      }
    }
  }
  const int row = p + block_row();
  if (row < rows) {
    schur_row<kP>(step, u + row, u_stride, u_out + row, rows, v + row, n);
  }
}

// x of the right-hand sides: [columns, n] of every system.
__global__ void __launch_bounds__(kThreads) bss_right_sides_kernel(BssSystems s) {
  const int64_t system = blockIdx.z;
  const int row = block_row();
  if (row >= s.n()) {
    return;
  }
  const int64_t reference = s.first[system] + row % s.p;
  const int64_t estimate = system * s.columns + blockIdx.y;
  s.x[estimate * s.n() + row] =
      s.correlations.cross[(reference * s.estimates + estimate) * s.m + row / s.p];
}

// The topmost block of a block column of L, [p, odd(p)], and the unknowns of as many columns as a
// block of threads solves for, [kColumns, p].
__host__ __device__ constexpr int solve_doubles(int p) { return p * odd(p) + kColumns * p; }
struct SolveStep {
  __device__ __forceinline__ SolveStep(const BssSystems& s, int64_t system, int64_t i,
                                       const double* right)
      : p(s.p),
        columns(min(kColumns, s.columns - static_cast<int>(blockIdx.y) * kColumns)),
        first(system * s.columns + int64_t{blockIdx.y} * kColumns),
        l(reinterpret_cast<double*>(dynamic_shared())),
        pivots(l + p * odd(p)) {
    const double* from = s.column(system, i);
    for (int e = static_cast<int>(threadIdx.x); e < p * p; e += kThreads) {
      l[e % p * odd(p) + e / p] = from[e / p * s.rows(i) + e % p];
    }
    for (int e = static_cast<int>(threadIdx.x); e < columns * p; e += kThreads) {
      pivots[e] = right[(first + e / p) * s.n() + i * p + e % p];
    }
    __syncthreads();
  }
  // Where the unknowns go; block 0 writes them.
  __device__ __forceinline__ void write(const BssSystems& s, int64_t i, double* to) const {
    if (blockIdx.x == 0) {
      for (int e = static_cast<int>(threadIdx.x); e < columns * p; e += kThreads) {
        to[(first + e / p) * s.n() + i * p + e % p] = pivots[e];
      }
    }
  }
  __device__ __forceinline__ double& element(int row, int column) const {
    return l[row * odd(p) + column];
  }
  int p, columns;
  int64_t first;  // column of all systems
  double *l, *pivots;
};

// L y = x, block i: its unknowns, and what they take from the rows below.
__global__ void __launch_bounds__(kThreads) bss_forward_kernel(BssSystems s, int i) {
  const int64_t system = blockIdx.z;
  const SolveStep step(s, system, i, s.x);
  if (threadIdx.x < static_cast<unsigned>(step.columns)) {
    double* b = step.pivots + threadIdx.x * step.p;
    for (int k = 0; k < step.p; ++k) {
      double sum = b[k];
      for (int j = 0; j < k; ++j) {
        sum -= step.element(k, j) * b[j];
      }
      b[k] = sum / step.element(k, k);
    }
  }
  __syncthreads();
  step.write(s, i, s.y);
  const int row = step.p + block_row();
  if (row >= s.rows(i)) {
    return;
  }
  const double* l = s.column(system, i) + row;
  for (int c = 0; c < step.columns; ++c) {
    double& x = s.x[(step.first + c) * s.n() + int64_t{i} * step.p + row];
    double sum = x;
    for (int k = 0; k < step.p; ++k) {
      sum -= l[k * s.rows(i)] * step.pivots[c * step.p + k];
    }
    x = sum;
  }
}

// Lᵀ x = y, block i: its unknowns, and what they take from the rows above.
__global__ void __launch_bounds__(kThreads) bss_backward_kernel(BssSystems s, int i) {
  const int64_t system = blockIdx.z;
  const SolveStep step(s, system, i, s.y);
  if (threadIdx.x < static_cast<unsigned>(step.columns)) {
    double* b = step.pivots + threadIdx.x * step.p;
    for (int k = step.p - 1; k >= 0; --k) {
      double sum = b[k];
      for (int j = k + 1; j < step.p; ++j) {
        sum -= step.element(j, k) * b[j];
      }
      b[k] = sum / step.element(k, k);
    }
  }
  __syncthreads();
  step.write(s, i, s.x);
  const int row = block_row();
  if (row >= i * step.p) {
    return;
  }
  const int above = row / step.p;
  const double* l =
      s.column(system, above) + row % step.p * s.rows(above) + int64_t{i - above} * step.p;
  for (int c = 0; c < step.columns; ++c) {
    double& y = s.y[(step.first + c) * s.n() + row];
    double sum = y;
    for (int k = 0; k < step.p; ++k) {
      sum -= l[k] * step.pivots[c * step.p + k];
    }
    y = sum;
  }
}

template <int kP>
void launch_steps(const ExecutionContext& ctx, const BssSystems& systems) {
  const int width = kP > 0 ? kP : systems.p;
  for (int i = 1; i < systems.m; ++i) {
    const int64_t below = systems.rows(i) - systems.p;
    launch(ctx,
           {.kernel = "bss_schur_step_kernel",
            .grid = {grid_size(std::max<int64_t>(1, ceil_div(below, kThreads))),
                     grid_size(systems.count)},
            .block = kThreads,
            .dynamic_shared_bytes =
                static_cast<std::size_t>(step_doubles(systems.p, width)) * sizeof(double)},
           bss_schur_step_kernel<kP>, systems, i);
  }
}

}  // namespace

void bss_take_memory(WorkspaceScope& scope, BssSystems& systems) {
  const int64_t sides = int64_t{systems.count} * systems.columns * systems.n();
  systems.load = scope.take<double>(systems.count);
  systems.failed = scope.take<int>(systems.count);
  const int64_t factor = systems.count * systems.factor_size();
  const int64_t v = systems.count * systems.p * systems.n();
  systems.factor = scope.take<double>(factor + v + 2 * sides);
  systems.v = systems.factor + factor;
  systems.x = systems.v + v;
  systems.y = systems.x + sides;
}

void bss_factorise(const ExecutionContext& ctx, const BssSystems& systems) {
  launch(ctx,
         {.kernel = "bss_first_column_kernel",
          .grid = {grid_size(ceil_div(systems.n(), kThreads)), grid_size(systems.count)},
          .block = kThreads},
         bss_first_column_kernel, systems);
  if (systems.p <= 2) {
    launch_steps<2>(ctx, systems);
  } else if (systems.p <= 4) {
    launch_steps<4>(ctx, systems);
  } else if (systems.p <= 8) {
    launch_steps<8>(ctx, systems);
  } else if (systems.p <= kMostInRegisters) {
    launch_steps<kMostInRegisters>(ctx, systems);
  } else {
    launch_steps<0>(ctx, systems);
  }
}

void bss_solve(const ExecutionContext& ctx, const BssSystems& systems) {
  launch(ctx,
         {.kernel = "bss_right_sides_kernel",
          .grid = {grid_size(ceil_div(systems.n(), kThreads)), grid_size(systems.columns),
                   grid_size(systems.count)},
          .block = kThreads},
         bss_right_sides_kernel, systems);
  const auto config = [&](const char* kernel, int64_t rows) {
    return LaunchConfig{
        .kernel = kernel,
        .grid = {grid_size(std::max<int64_t>(1, ceil_div(rows, kThreads))),
                 grid_size(ceil_div(systems.columns, kColumns)), grid_size(systems.count)},
        .block = kThreads,
        .dynamic_shared_bytes =
            static_cast<std::size_t>(solve_doubles(systems.p)) * sizeof(double)};
  };
  for (int i = 0; i < systems.m; ++i) {
    launch(ctx, config("bss_forward_kernel", systems.rows(i) - systems.p), bss_forward_kernel,
           systems, i);
  }
  for (int i = systems.m - 1; i >= 0; --i) {
    launch(ctx, config("bss_backward_kernel", int64_t{i} * systems.p), bss_backward_kernel, systems,
           i);
  }
}

}  // namespace stemfabric::cuda
