// Blocks of x are multiplied with the blocks of y that reach taps−1 samples further; their spectra
// are added up, and only the sums are transformed back. Sums go through the blocks in order.
#include <algorithm>
#include <cmath>

#include "kernels/bss_eval/bss_signals.cuh"

namespace stemfabric::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kRows = 2;  // products of a thread
constexpr int kColumns = 4;

__global__ void __launch_bounds__(kThreads) bss_roots_kernel(BssComplex* roots) {
  constexpr double kTwoPi = 6.28318530717958647693;
  const int k = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  const double angle = kTwoPi * k / kBssFft;
  roots[k] = {cos(angle), -sin(angle)};
}

// Spectra [p, count] of blocks without the overlap, then [p + q, count] of blocks with it.
__global__ void __launch_bounds__(kBssFftThreads)
    bss_block_spectra_kernel(BssSignals signals, const BssComplex* roots, int64_t first_block,
                             BssComplex* spectra) {
  auto& shared = shared_storage<BssFftStorage>();
  const auto place = static_cast<int>(blockIdx.y);
  const bool is_short = place < signals.p;
  const int index = is_short ? place : place - signals.p;
  const float* x =
      index < signals.p ? signals.references[index] : signals.estimates[index - signals.p];
  const int64_t start = (first_block + blockIdx.x) * signals.step();
  const int64_t samples = min(is_short ? signals.step() : int64_t{kBssFft}, signals.length - start);
  bss_forward(
      shared.points, roots,
      [&](int t) { return t < samples ? static_cast<double>(x[start + t]) : 0.0; },
      spectra + (int64_t{blockIdx.y} * gridDim.x + blockIdx.x) * kBssBins);
}

struct ProductParameters {
  int rows, columns, terms;
  const BssComplex *a, *b;  // [rows, terms, kBssBins], [columns, terms, kBssBins]
  BssComplex* sums;         // [rows, columns, kBssBins]
  bool accumulate;
};

// sums[i,j] (+)= Σ_t conj(a[i,t]) b[j,t], bin by bin.
__global__ void __launch_bounds__(kThreads) bss_products_kernel(ProductParameters p) {
  const auto bin = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (bin >= kBssBins) {
    return;
  }
  const auto row = static_cast<int>(blockIdx.y) * kRows;
  const auto column = static_cast<int>(blockIdx.z) * kColumns;
  // Beyond the last row and column the last one is taken again, and not written.
  const BssComplex* a[kRows];
  const BssComplex* b[kColumns];
  BssComplex sum[kRows][kColumns];
  SF_UNROLL
  for (int i = 0; i < kRows; ++i) {
    a[i] = p.a + int64_t{min(row + i, p.rows - 1)} * p.terms * kBssBins + bin;
  }
  SF_UNROLL
  for (int j = 0; j < kColumns; ++j) {
    b[j] = p.b + int64_t{min(column + j, p.columns - 1)} * p.terms * kBssBins + bin;
  }
  const auto out = [&](int i, int j) -> BssComplex& {
    return p.sums[(int64_t{row + i} * p.columns + column + j) * kBssBins + bin];
  };
  const auto inside = [&](int i, int j) { return row + i < p.rows && column + j < p.columns; };
  SF_UNROLL
  for (int i = 0; i < kRows; ++i) {
    SF_UNROLL
    for (int j = 0; j < kColumns; ++j) {
      sum[i][j] = p.accumulate && inside(i, j) ? out(i, j) : BssComplex{0, 0};
    }
  }
  for (int64_t t = 0; t < p.terms; ++t) {
    BssComplex y[kColumns];
    SF_UNROLL
    for (int j = 0; j < kColumns; ++j) {
      y[j] = b[j][t * kBssBins];
    }
    SF_UNROLL
    for (int i = 0; i < kRows; ++i) {
      const BssComplex x = a[i][t * kBssBins];
      SF_UNROLL
      for (int j = 0; j < kColumns; ++j) {
        sum[i][j].re += x.re * y[j].re + x.im * y[j].im;
        sum[i][j].im += x.re * y[j].im - x.im * y[j].re;
      }
    }
  }
  SF_UNROLL
  for (int i = 0; i < kRows; ++i) {
    SF_UNROLL
    for (int j = 0; j < kColumns; ++j) {
      if (inside(i, j)) {
        out(i, j) = sum[i][j];
      }
    }
  }
}

// Lags 0 … taps−1 of the sums [p, p + q].
__global__ void __launch_bounds__(kBssFftThreads)
    bss_lags_kernel(BssSignals signals, const BssComplex* roots, const BssComplex* sums,
                    BssCorrelations out) {
  auto& shared = shared_storage<BssFftStorage>();
  const int columns = signals.p + signals.q;
  const auto row = static_cast<int>(blockIdx.x) / columns;
  const int column = static_cast<int>(blockIdx.x) % columns;
  const BssComplex* sum = sums + int64_t{blockIdx.x} * kBssBins;
  bss_inverse(shared.points, roots, [&](int k) { return sum[k]; });
  double* to = column < signals.p
                   ? out.gram + int64_t{row * signals.p + column} * signals.taps
                   : out.cross + int64_t{row * signals.q + column - signals.p} * signals.taps;
  for (int lag = static_cast<int>(threadIdx.x); lag < signals.taps; lag += kBssFftThreads) {
    to[lag] = (lag % 2 == 0 ? bss_even(shared.points, lag / 2) : bss_odd(shared.points, lag / 2)) /
              kBssFft;
  }
}

}  // namespace

const BssComplex* bss_roots(const ExecutionContext& ctx, WorkspaceScope& scope) {
  auto* roots = scope.take<BssComplex>(kBssFft);
  launch(ctx, {.kernel = "bss_roots_kernel", .grid = kBssFft / kThreads, .block = kThreads},
         bss_roots_kernel, roots);
  return roots;
}

void bss_correlate(const ExecutionContext& ctx, const BssSignals& signals, const BssComplex* roots,
                   const BssCorrelations& out) {
  WorkspaceScope scope(ctx.workspace());
  const int columns = signals.p + signals.q;
  const int kept = signals.p + columns;  // spectra of a block
  const int64_t blocks = ceil_div(signals.length, signals.step());
  const int64_t at_once = std::min(blocks, kBssSpectraAtOnce / kept);
  auto* spectra = scope.take<BssComplex>(kept * at_once * kBssBins);
  auto* sums = scope.take<BssComplex>(int64_t{signals.p} * columns * kBssBins);
  for (int64_t first = 0; first < blocks; first += at_once) {
    const int64_t count = std::min(at_once, blocks - first);
    launch(ctx,
           {.kernel = "bss_block_spectra_kernel",
            .grid = {grid_size(count), grid_size(kept)},
            .block = kBssFftThreads},
           bss_block_spectra_kernel, signals, roots, first, spectra);
    launch(ctx,
           {.kernel = "bss_products_kernel",
            .grid = {grid_size(ceil_div(kBssBins, kThreads)), grid_size(ceil_div(signals.p, kRows)),
                     grid_size(ceil_div(columns, kColumns))},
            .block = kThreads},
           bss_products_kernel,
           {.rows = signals.p,
            .columns = columns,
            .terms = static_cast<int>(count),
            .a = spectra,
            .b = spectra + signals.p * count * kBssBins,
            .sums = sums,
            .accumulate = first > 0});
  }
  launch(ctx,
         {.kernel = "bss_lags_kernel",
          .grid = grid_size(int64_t{signals.p} * columns),
          .block = kBssFftThreads},
         bss_lags_kernel, signals, roots, sums, out);
}

}  // namespace stemfabric::cuda
