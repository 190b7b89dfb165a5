// The second stage of a sum over many rows: blocks have written rows of partial sums to the
// workspace, and this adds them to the result in float64, in a fixed order.
#pragma once

#include "kernels/common/launch.cuh"

namespace stemfabric::cuda {

inline constexpr int kAddPartsColumns = 32;
inline constexpr int kAddPartsRows = 16;

struct AddPartsStorage {
  double sum[kAddPartsRows][kAddPartsColumns];
};

// first[c] += Σ_b parts[b, c] for c < split, second[c − split] += … for the other columns.
template <typename T>
__global__ void __launch_bounds__(kAddPartsColumns* kAddPartsRows)
    add_parts_kernel(const T* parts, int64_t blocks, int64_t columns, float* first, int64_t split,
                     float* second) {
  auto& shared = shared_storage<AddPartsStorage>();
  const int64_t c = int64_t{blockIdx.x} * kAddPartsColumns + threadIdx.x;
  double sum = 0;
  if (c < columns) {
    for (int64_t b = threadIdx.y; b < blocks; b += kAddPartsRows) {
      sum += static_cast<double>(parts[b * columns + c]);
    }
  }
  shared.sum[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y == 0 && c < columns) {
    for (int r = 1; r < kAddPartsRows; ++r) {
      sum += shared.sum[r][threadIdx.x];
    }
    float& out = c < split ? first[c] : second[c - split];
    out = static_cast<float>(static_cast<double>(out) + sum);
  }
}

template <typename T>
void add_parts(const ExecutionContext& ctx, const T* parts, int64_t blocks, int64_t columns,
               float* first, int64_t split, float* second) {
  launch(ctx,
         {.kernel = "add_parts_kernel",
          .grid = grid_size(ceil_div(columns, kAddPartsColumns)),
          .block = {kAddPartsColumns, kAddPartsRows}},
         add_parts_kernel<T>, parts, blocks, columns, first, split, second);
}

}  // namespace stemfabric::cuda
