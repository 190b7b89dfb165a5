// What the bf16 kernels of attention share: their tiles in shared memory, the exponential, the
// scores of a tile.
#pragma once

#include "kernels/attention/attention_device.cuh"
#include "kernels/common/async_copy.cuh"
#include "kernels/common/mma.cuh"
#include "kernels/common/vector.cuh"

namespace stemfabric::attention {

// 2^x to about 2^-22 relative; 0 at −∞ and below 2^-126.
__device__ __forceinline__ float exp2_fast(float x) {
#if SF_SIMT
  return exp2f(x);
#else
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

// Elements from a row of a tile to the next: 16 bytes more, so that the rows that load_matrices
// reads lie in different banks.
template <int kDim>
inline constexpr int kTileStride = kDim + 8;

// Can rows be copied 16 bytes at a time, and be written two elements at a time?
inline bool rows_are_copied(const Rows<const Bf16>& rows, int64_t dim) {
  return reinterpret_cast<std::uintptr_t>(rows.data) % 16 == 0 && dim % 8 == 0 &&
         rows.batch_stride % 8 == 0 && rows.token_stride % 8 == 0 && rows.head_stride % 8 == 0;
}
template <typename T>
bool rows_are_pairs(const Rows<T>& rows, int64_t dim) {
  return reinterpret_cast<std::uintptr_t>(rows.data) % (2 * sizeof(T)) == 0 && dim % 2 == 0 &&
         rows.batch_stride % 2 == 0 && rows.token_stride % 2 == 0 && rows.head_stride % 2 == 0;
}

// Copies kCount rows of a head to shared memory, by a block of kThreads threads; zeros for rows
// that are not `open` (these are not read) and for columns beyond the head dimension. With
// `vectors` the copy is under way on return (wait_for_copies).
template <int kThreads, int kCount, int kDim, typename Open>
__device__ __forceinline__ void copy_rows(const Bf16* head, int64_t token_stride, int64_t first,
                                          int dim, bool vectors, Bf16* to, Open open) {
  const int thread = static_cast<int>(threadIdx.x);
  const Bf16* from = head + first * token_stride;
  if (vectors) {
    constexpr int kPerRow = kDim / 8;
    for (int n = thread; n < kCount * kPerRow; n += kThreads) {
      const int row = n / kPerRow;
      const int e = n % kPerRow * 8;
      const bool read = e < dim && open(row);
      copy_async16(to + row * kTileStride<kDim> + e, read ? from + row * token_stride + e : head,
                   read);
    }
  } else {
    for (int n = thread; n < kCount * kDim; n += kThreads) {
      const int row = n / kDim;
      const int e = n % kDim;
      to[row * kTileStride<kDim> + e] =
          e < dim && open(row) ? from[row * token_stride + e] : Bf16{0};
    }
  }
}

// Two neighbouring elements of a row of `dim`.
template <typename T>
__device__ __forceinline__ void store_pair(T* row, int e, int dim, bool pairs, float x0, float x1) {
  if (e >= dim) {
    return;
  }
  if (pairs) {
    store_vector<2>(row + e, {{x0, x1}});
    return;
  }
  store_vector<1>(row + e, {{x0}});
  if (e + 1 < dim) {
    store_vector<1>(row + e + 1, {{x1}});
  }
}

}  // namespace stemfabric::attention
