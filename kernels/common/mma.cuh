// Products of bf16 on the tensor cores, float32 sums: mma.sync m16n8k16 and the loads of its
// operands (sm_80 and up). The SIMT executor computes the same from the same registers of the same
// lanes.
//
// Which elements a lane holds, with group = lane / 4 and pair = lane % 4 (PTX ISA, "Matrix
// fragments for mma.m16n8k16"); two neighbouring bf16 share a word:
//   A [16 x 16]  word 0: row group,     columns 2 pair, 2 pair + 1     1: row group + 8
//                word 2: row group,     columns 2 pair + 8, + 9        3: row group + 8
//   B [16 x 8]   word 0: rows 2 pair, 2 pair + 1, column group         1: rows 2 pair + 8, + 9
//   C [16 x 8]   0, 1: row group, columns 2 pair, 2 pair + 1           2, 3: row group + 8
// So two neighbouring Cs, rounded to bf16 and packed, are an A: what one product gives is an
// operand of the next without moving between lanes.
#pragma once

#include <cstdint>

#include "kernels/common/block_reduce.cuh"
#include "kernels/common/launch.cuh"
#include "runtime/core/bf16.h"

namespace stemfabric {

struct FragmentA {
  uint32_t word[4];
};
struct FragmentB {
  uint32_t word[2];
};
struct FragmentC {
  float value[4];
};

// c += a b. Called by whole warps.
__device__ __forceinline__ void mma(FragmentC& c, const FragmentA& a, const FragmentB& b) {
#if SF_SIMT
  struct Operands {
    FragmentA a;
    FragmentB b;
  };
  const Operands mine{a, b};
  const auto all = simt::warp_exchange(kFullWarp, &mine, sizeof mine, simt::Site::current());
  const auto of = [&](int lane) { return simt::exchanged<Operands>(all, lane); };
  const int lane = simt::this_thread().lane;
  for (int pair = 0; pair < 4; ++pair) {
    const FragmentA rows = of(lane / 4 * 4 + pair).a;
    for (int column = 0; column < 2; ++column) {
      const FragmentB& other = of((lane % 4 * 2 + column) * 4 + pair).b;
      for (int half = 0; half < 2; ++half) {
        const uint32_t y = other.word[half];
        for (int row = 0; row < 2; ++row) {
          const uint32_t x = rows.word[2 * half + row];
          float& sum = c.value[2 * row + column];
          sum += low_bf16(x) * low_bf16(y);
          sum += high_bf16(x) * high_bf16(y);
        }
      }
    }
  }
#else
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c.value[0]), "+f"(c.value[1]), "+f"(c.value[2]), "+f"(c.value[3])
      : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b.word[0]),
        "r"(b.word[1]));
#endif
}

// Four 8 x 8 matrices from shared memory. Lane n gives the address of row n % 8 of matrix n / 8: 16
// bytes, aligned. The lane gets, of each matrix, columns 2 pair and 2 pair + 1 of row group;
// transposed: of the column group, rows 2 pair and 2 pair + 1. Called by whole warps.
template <bool kTransposed>
__device__ __forceinline__ void load_matrices(const Bf16* row, uint32_t (&word)[4]) {
#if SF_SIMT
  const auto rows = simt::warp_exchange(kFullWarp, &row, sizeof row, simt::Site::current());
  const int lane = simt::this_thread().lane;
  const int group = lane / 4;
  const int pair = lane % 4;
  for (int matrix = 0; matrix < 4; ++matrix) {
    const auto at = [&](int r, int c) {
      return uint32_t{simt::exchanged<const Bf16*>(rows, 8 * matrix + r)[c].bits};
    };
    word[matrix] = kTransposed ? at(2 * pair, group) | at(2 * pair + 1, group) << 16
                               : at(group, 2 * pair) | at(group, 2 * pair + 1) << 16;
  }
#else
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(word[0]), "=r"(word[1]), "=r"(word[2]), "=r"(word[3])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(word[0]), "=r"(word[1]), "=r"(word[2]), "=r"(word[3])
                 : "r"(address)
                 : "memory");
  }
#endif
}

// The operands as they lie in shared memory, `stride` elements from row to row; `x` is the first
// element of the part. Strides of 16 bytes more than a multiple of 32 have no bank conflicts.

// A[i][k] = x[i][k], 16 x 16.
__device__ __forceinline__ FragmentA load_a(const Bf16* x, int stride) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
  FragmentA a;
  load_matrices<false>(x + lane % 16 * stride + lane / 16 * 8, a.word);
  return a;
}

struct TwoB {
  FragmentB b[2];
};
// B[k][n] = x[n][k], two neighbouring Bs: n = 0 … 7 and 8 … 15.
__device__ __forceinline__ TwoB load_b_of_rows(const Bf16* x, int stride) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
  uint32_t word[4];
  load_matrices<false>(x + (lane / 16 * 8 + lane % 8) * stride + lane / 8 % 2 * 8, word);
  return {{{{word[0], word[1]}}, {{word[2], word[3]}}}};
}
// B[k][n] = x[k][n], two neighbouring Bs.
__device__ __forceinline__ TwoB load_b_of_columns(const Bf16* x, int stride) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
  uint32_t word[4];
  load_matrices<true>(x + lane % 16 * stride + lane / 16 * 8, word);
  return {{{{word[0], word[1]}}, {{word[2], word[3]}}}};
}

// Two neighbouring Cs, 16 x 16 in all, as an A.
__device__ __forceinline__ FragmentA pack_a(const FragmentC& left, const FragmentC& right) {
  return {{pack_bf16(left.value[0], left.value[1]), pack_bf16(left.value[2], left.value[3]),
           pack_bf16(right.value[0], right.value[1]), pack_bf16(right.value[2], right.value[3])}};
}

// Products of the bf16 in two words, rounded to bf16.
__device__ __forceinline__ uint32_t multiply_bf16(uint32_t a, uint32_t b) {
#if SF_SIMT
  return pack_bf16(low_bf16(a) * low_bf16(b), high_bf16(a) * high_bf16(b));
#else
  uint32_t product;  // + −0, which changes nothing: sm_80 has no product without a sum
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(product) : "r"(a), "r"(b), "r"(0x80008000u));
  return product;
#endif
}

}  // namespace stemfabric
