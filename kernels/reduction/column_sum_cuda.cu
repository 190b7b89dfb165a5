// Bound by memory: 4 bytes per element of x (bf16: 2), read once; the float64 partial sums are a
// few percent more. The rows of each class (m mod P) are cut into chunks of kRowsPerThread rows per
// thread; a block sums one chunk of up to 32 vectors of columns, with its threads spread over
// columns and rows (few columns: many rows), and then over its row threads in shared memory, as a
// tree. Where a class has one chunk only, as in the gradient of a position table, that is the
// result; else the chunks' sums go through the workspace. The cut depends on the sizes alone.
#include "kernels/reduction/column_sum_cuda.h"

#include <algorithm>

#include "kernels/common/add_parts.cuh"
#include "kernels/common/element.h"
#include "kernels/common/vector.cuh"

namespace stemfabric::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kMostVectors = 32;  // columns' vectors of a block
constexpr int64_t kRowsPerThread = 16;

template <typename T>
struct ColumnSum {
  const T* x;
  int64_t row_stride, rows, columns, period;
  double* parts;  // [chunks, period, columns]
  float* out;     // if there is one chunk
  int64_t chunks, tiles;
};

template <int kWidth>
struct TileStorage {
  double sum[kWidth][kThreads];
};

// blockDim: vectors of columns, row threads. The grid: tiles of columns, chunks, classes.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads) column_sum_kernel(ColumnSum<T> p) {
  auto& shared = shared_storage<TileStorage<kWidth>>();
  const int vectors = static_cast<int>(blockDim.x);
  const int row_threads = static_cast<int>(blockDim.y);
  const int64_t tile = blockIdx.x % p.tiles;
  const int64_t chunk = blockIdx.x / p.tiles % p.chunks;
  const int64_t group = blockIdx.x / (p.tiles * p.chunks);
  const int64_t column = (tile * vectors + threadIdx.x) * kWidth;
  double sum[kWidth] = {};
  if (column < p.columns) {
    const int64_t first = chunk * row_threads * kRowsPerThread + threadIdx.y;
    const T* from = p.x + column;
    for (int64_t k = 0; k < kRowsPerThread; ++k) {
      const int64_t row = group + (first + k * row_threads) * p.period;
      if (row < p.rows) {
        const auto v = load_vector<kWidth>(from + row * p.row_stride);
        for (int i = 0; i < kWidth; ++i) {
          sum[i] += static_cast<double>(v.lane[i]);
        }
      }
    }
  }
  const int slot = static_cast<int>(threadIdx.y) * vectors + static_cast<int>(threadIdx.x);
  // The upper half hands its sums to the lower half; every slot is written once.
  for (int half = row_threads / 2; half > 0; half /= 2) {
    const auto y = static_cast<int>(threadIdx.y);
    if (y >= half && y < 2 * half) {
      for (int i = 0; i < kWidth; ++i) {
        shared.sum[i][slot] = sum[i];
      }
    }
    __syncthreads();
    if (y < half) {
      for (int i = 0; i < kWidth; ++i) {
        sum[i] += shared.sum[i][slot + half * vectors];
      }
    }
  }
  if (threadIdx.y != 0 || column >= p.columns) {
    return;
  }
  const int64_t to = group * p.columns + column;
  for (int i = 0; i < kWidth; ++i) {
    if (p.chunks == 1) {
      p.out[to + i] = static_cast<float>(static_cast<double>(p.out[to + i]) + sum[i]);
    } else {
      p.parts[chunk * p.period * p.columns + to + i] = sum[i];
    }
  }
}

template <typename T>
void run(const ExecutionContext& ctx, const ColumnSumArgs& args) {
  const int64_t rows = args.x.dim(0);
  const int64_t columns = args.x.dim(1);
  const int64_t period = args.out.dim(0);
  ColumnSum<T> p = {.x = args.x.as<T>(),
                    .row_stride = args.x.stride(0),
                    .rows = rows,
                    .columns = columns,
                    .period = period,
                    .out = args.out.as<float>()};
  constexpr int kWide = kVectorOf<T>;
  const bool wide = aligned_for<kWide>(p.x) && columns % kWide == 0 && p.row_stride % kWide == 0;
  const int64_t all_vectors = columns / (wide ? kWide : 1);
  int vectors = 1;  // of a block, a power of two
  while (vectors < kMostVectors && vectors < all_vectors) {
    vectors *= 2;
  }
  const int row_threads = kThreads / vectors;
  p.tiles = ceil_div(all_vectors, vectors);
  p.chunks = ceil_div(ceil_div(rows, period), row_threads * kRowsPerThread);
  WorkspaceScope scope(ctx.workspace());
  if (p.chunks > 1) {
    p.parts = scope.take<double>(p.chunks * period * columns);
  }
  launch(ctx,
         {.kernel = "column_sum_kernel",
          .grid = grid_size(p.tiles * p.chunks * period),
          .block = {static_cast<unsigned>(vectors), static_cast<unsigned>(row_threads)}},
         wide ? column_sum_kernel<T, kWide> : column_sum_kernel<T, 1>, p);
  if (p.chunks > 1) {
    add_parts(ctx, p.parts, p.chunks, period * columns, p.out, period * columns, p.out);
  }
}

}  // namespace

void column_sum(const ExecutionContext& ctx, const ColumnSumArgs& args) {
  if (args.x.elements() > 0) {
    with_element(args.x.dtype(), [&]<typename T>() { run<T>(ctx, args); });
  }
}

}  // namespace stemfabric::cuda
