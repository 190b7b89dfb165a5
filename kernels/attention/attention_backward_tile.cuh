// Tiles of the attention backward on CUDA cores, float32.
//
// A block keeps `kColumns` columns for its whole life and streams the other side past them, `kRows`
// rows at a time. Columns are keys and rows queries where dK and dV are formed; it is the other way
// round for dQ. Per tile, with X1, X2 the columns' and Y1, Y2 the rows' operands (Q, dO or K, V):
//   scores  S = Y1 X1ᵀ and dG = Y2 X2ᵀ in registers, thread (x, y) owns rows y + 8 r and columns
//           x + 16 c: a warp reads 8 columns and 4 rows, which lie in different banks
//   sums    Σ_row W[row, column] Y[row, dimension] of weights W that the scores became, kept in
//           registers until the last tile
#pragma once

#include <algorithm>

#include "kernels/attention/attention_device.cuh"
#include "kernels/common/vector.cuh"

namespace stemfabric::attention::backward {

inline constexpr int kThreads = 128;
inline constexpr int kRows = 32;  // of a tile, and keys to a word of keep or mask bits
static_assert(kRows == kTileKeys);

template <int kDimT>
struct Tile {
  static constexpr int kDim = kDimT;  // head size, padded with zeros
  static constexpr int kQuads = kDim / 4;
  static constexpr int kStride = kDim + 4;  // floats; 4 more: rows start in different banks
  // 128 dimensions: fewer columns, so that two blocks share a multiprocessor.
  static constexpr int kColumns = kDim <= 64 ? 64 : 32;
  static constexpr int kColumnWords = kColumns / 32;
  static constexpr int kWeightStride = kColumns + 8;  // 4 rows of a warp in different banks

  static constexpr int kScoreRows = kRows / 8;
  static constexpr int kScoreColumns = kColumns / 16;

  // A thread's part of a sum: neighbouring columns and float4s, `kDimThreads` of them apart.
  static constexpr int kSumQuads = kDim <= 32 ? 1 : 2;
  static constexpr int kDimThreads = kQuads / kSumQuads;
  static constexpr int kSumColumns = kColumns * kDimThreads / kThreads;
  static_assert(kSumColumns == 2 || kSumColumns == 4);

  using Scores = float[kScoreRows][kScoreColumns];
  using Sums = float4[kSumColumns][kSumQuads];
  using Columns = float[kColumns][kStride];
  using Rows = float[kRows][kStride];
  using Weights = float[kRows][kWeightStride];
};

// How many blocks a multiprocessor should hold: as many as fit its shared memory, but not so many
// that registers (168 per thread for 3 blocks, 128 for 4) spill.
constexpr int blocks_at_once(std::size_t shared_bytes, int dim) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  constexpr std::size_t kBytes = 228 * 1024;
#else
  constexpr std::size_t kBytes = 164 * 1024;
#endif
  const int fit = static_cast<int>(kBytes / (shared_bytes + 1024));  // CUDA takes 1 KB per block
  return std::min(fit, dim <= 16 ? 4 : 3);
}

// Where a thread works in a tile.
struct ScorePlace {
  int x, y;  // columns x + 16 c, rows y + 8 r
};
__device__ __forceinline__ ScorePlace score_place() {
  const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
  const int warp = static_cast<int>(threadIdx.x) / kWarpLanes;
  return {warp % 2 * 8 + lane % 8, warp / 2 * 4 + lane / 8};
}
template <int kDim>
struct SumPlace {
  int column, dim;  // the first of each
  __device__ __forceinline__ SumPlace()
      : column(static_cast<int>(threadIdx.x) / Tile<kDim>::kDimThreads * Tile<kDim>::kSumColumns),
        dim(static_cast<int>(threadIdx.x) % Tile<kDim>::kDimThreads * 4) {}
  static constexpr int kNextDim = Tile<kDim>::kDimThreads * 4;
};

// Rows that may be read and written by float4s, or not.
template <typename T>
struct QuadRows : Rows<T> {
  bool quads = false;

  __device__ __forceinline__ T* row(int64_t b, int64_t h, int64_t t) const {
    return this->head(b, h) + t * this->token_stride;
  }
};
template <typename T>
QuadRows<T> quad_rows(const Rows<T>& rows, int64_t dim) {
  return {rows, rows_are_vectors(rows, dim)};
}

// Elements e … e + 3 of a row of `dim` elements, zeros beyond it.
__device__ __forceinline__ float4 load_quad(const float* row, int e, int dim, bool quads) {
  if (e >= dim) {
    return make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  }
  if (quads) {
    return *reinterpret_cast<const float4*>(row + e);
  }
  return make_float4(row[e], e + 1 < dim ? row[e + 1] : 0.0f, e + 2 < dim ? row[e + 2] : 0.0f,
                     e + 3 < dim ? row[e + 3] : 0.0f);
}
__device__ __forceinline__ float4 load_quad(const Bf16* row, int e, int dim, bool quads) {
  const auto element = [&](int i) { return e + i < dim ? from_bf16(row[e + i]) : 0.0f; };
  if (quads && e < dim) {
    const auto quad = load_vector<4>(row + e);
    return make_float4(quad.lane[0], quad.lane[1], quad.lane[2], quad.lane[3]);
  }
  return make_float4(element(0), element(1), element(2), element(3));
}
__device__ __forceinline__ void store_quad(float* row, int e, int dim, bool quads, float4 x) {
  if (e >= dim) {
    return;
  }
  if (quads) {
    *reinterpret_cast<float4*>(row + e) = x;
    return;
  }
  row[e] = x.x;
  if (e + 1 < dim) {
    row[e + 1] = x.y;
  }
  if (e + 2 < dim) {
    row[e + 2] = x.z;
  }
  if (e + 3 < dim) {
    row[e + 3] = x.w;
  }
}

// Copies `kCount` rows of one head to shared memory; rows whose bit of `present` is 0 are not read
// and become zeros.
template <int kDim, int kCount>
__device__ __forceinline__ void load_rows(const QuadRows<const float>& from, int64_t b, int64_t h,
                                          int64_t first, uint64_t present, int dim,
                                          float (&to)[kCount][kDim + 4]) {
  constexpr int kQuads = kDim / 4;
  static_assert(kCount * kQuads % kThreads == 0);
  const float* head = from.row(b, h, first);
  SF_UNROLL_4
  for (int n = 0; n < kCount * kQuads / kThreads; ++n) {
    const int i = n * kThreads + static_cast<int>(threadIdx.x);
    const int row = i / kQuads;
    const int e = i % kQuads * 4;
    float4 x = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if ((present >> row & 1u) != 0) {
      x = load_quad(head + row * from.token_stride, e, dim, from.quads);
    }
    *reinterpret_cast<float4*>(&to[row][e]) = x;
  }
}

// Bits of the rows first … first + count - 1 (count <= 64) that lie before `end`.
__device__ __forceinline__ uint64_t bits_before(int64_t end, int64_t first, int count) {
  const int64_t rows = end - first < count ? end - first : count;
  return rows >= 64 ? ~uint64_t{0} : (uint64_t{1} << rows) - 1;
}

__device__ __forceinline__ void add_product(float& sum, const float4& a, const float4& b) {
  sum += a.x * b.x;
  sum += a.y * b.y;
  sum += a.z * b.z;
  sum += a.w * b.w;
}
__device__ __forceinline__ void add_scaled(float4& sum, float a, const float4& b) {
  sum.x += a * b.x;
  sum.y += a * b.y;
  sum.z += a * b.z;
  sum.w += a * b.w;
}

// out[r][c] = row y + 8 r · column x + 16 c. One sum, dimension by dimension, as in the forward:
// the scores must have the bits of those that m and l come from, or exp would magnify the
// difference.
template <int kDim>
__device__ __forceinline__ void form_scores(const ScorePlace& at,
                                            const typename Tile<kDim>::Rows& rows,
                                            const typename Tile<kDim>::Columns& columns,
                                            typename Tile<kDim>::Scores& out) {
  using T = Tile<kDim>;
  SF_UNROLL
  for (int r = 0; r < T::kScoreRows; ++r) {
    SF_UNROLL
    for (int c = 0; c < T::kScoreColumns; ++c) {
      out[r][c] = 0.0f;
    }
  }
  SF_UNROLL_4
  for (int e = 0; e < kDim; e += 4) {
    float4 row[T::kScoreRows];
    float4 column[T::kScoreColumns];
    SF_UNROLL
    for (int r = 0; r < T::kScoreRows; ++r) {
      row[r] = *reinterpret_cast<const float4*>(&rows[at.y + 8 * r][e]);
    }
    SF_UNROLL
    for (int c = 0; c < T::kScoreColumns; ++c) {
      column[c] = *reinterpret_cast<const float4*>(&columns[at.x + 16 * c][e]);
    }
    SF_UNROLL
    for (int r = 0; r < T::kScoreRows; ++r) {
      SF_UNROLL
      for (int c = 0; c < T::kScoreColumns; ++c) {
        add_product(out[r][c], row[r], column[c]);
      }
    }
  }
}

template <int kDim>
__device__ __forceinline__ void clear(typename Tile<kDim>::Sums& sums) {
  SF_UNROLL
  for (int c = 0; c < Tile<kDim>::kSumColumns; ++c) {
    SF_UNROLL
    for (int q = 0; q < Tile<kDim>::kSumQuads; ++q) {
      sums[c][q] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    }
  }
}

// sums += Σ over the tile's row `row` of weight x operand.
template <int kDim>
__device__ __forceinline__ void add_row(const SumPlace<kDim>& at, int row,
                                        const typename Tile<kDim>::Weights& weights,
                                        const typename Tile<kDim>::Rows& operand,
                                        typename Tile<kDim>::Sums& sums) {
  using T = Tile<kDim>;
  float weight[T::kSumColumns];
  if constexpr (T::kSumColumns == 4) {
    const float4 w = *reinterpret_cast<const float4*>(&weights[row][at.column]);
    weight[0] = w.x;
    weight[1] = w.y;
    weight[2] = w.z;
    weight[3] = w.w;
  } else {
    const float2 w = *reinterpret_cast<const float2*>(&weights[row][at.column]);
    weight[0] = w.x;
    weight[1] = w.y;
  }
  SF_UNROLL
  for (int q = 0; q < T::kSumQuads; ++q) {
    const float4 x =
        *reinterpret_cast<const float4*>(&operand[row][at.dim + q * SumPlace<kDim>::kNextDim]);
    SF_UNROLL
    for (int c = 0; c < T::kSumColumns; ++c) {
      add_scaled(sums[c][q], weight[c], x);
    }
  }
}

// words[q * kGroups + g]: bit n says whether query `query + q` keeps key 32 (group + g) + n. Four
// lanes share a word, each makes eight of its bits.
template <int kWords, int kGroups>
__device__ __forceinline__ void fill_keep_words(const Keep& keep, int64_t b, int64_t h,
                                                int64_t query, int64_t group, uint32_t* words) {
  static_assert(kWords * 4 % kThreads == 0);
  for (int n = 0; n < kWords * 4 / kThreads; ++n) {
    const int i = n * kThreads + static_cast<int>(threadIdx.x);
    const int word = i / 4;
    const int pair = i % 4;
    const unsigned eight =
        keep_bits(keep, b, h, query + word / kGroups, (group + word % kGroups) * kTileKeys, pair);
    uint32_t bits = 0;
    SF_UNROLL
    for (int k = 0; k < 4; ++k) {
      bits |= (eight >> (2 * k) & 3u) << (8 * k);
    }
    bits <<= 2 * pair;
    bits |= __shfl_xor_sync(kFullWarp, bits, 2);
    bits |= __shfl_xor_sync(kFullWarp, bits, 1);
    if (pair == 0) {
      words[word] = bits;
    }
  }
}

}  // namespace stemfabric::attention::backward
