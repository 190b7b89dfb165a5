// The second kernel of the attention backward: dK and dV. A block keeps its keys and goes through
// all queries.
#pragma once

#include "kernels/attention/attention_backward_rows.cuh"

namespace stemfabric::attention::backward {

template <int kDim>
struct KeysShared {
  typename Tile<kDim>::Columns k, v;
  typename Tile<kDim>::Rows q, d_o;
  typename Tile<kDim>::Weights weights, d_scores;
  RowTerms terms[kRows];
  uint32_t keep[kRows * Tile<kDim>::kColumnWords];
};

struct WeightAndGradient {
  float weight, d_score;
};

// Scores and dG of one query row -> R(A) (with dropout G) and dS; c are the row's coefficients.
template <bool kDropout>
__device__ __forceinline__ WeightAndGradient key_element(const BackwardParameters& p,
                                                         const RowTerms& row,
                                                         const float (&c)[kAttentionDegree],
                                                         float score, float dg, bool kept) {
  const float a = exp_scaled(score - row.m, p.kappa) * row.inverse_l;
  if (kDropout) {
    dg = kept ? dg * p.dropout_scale : 0.0f;
  }
  WeightAndGradient out;
  if (p.coefficients.polynomial) {
    float value = c[kAttentionDegree - 1];
    float slope = value;
    float e = p.x_slope[kAttentionDegree - 1];
    SF_UNROLL
    for (int r = kAttentionDegree - 2; r >= 0; --r) {
      value = value * a + c[r];
      slope = slope * a + value;
      e = e * a + p.x_slope[r];
    }
    const float g = (dg - row.d0) * row.inverse_g;
    out.weight = value * a * row.inverse_g;
    out.d_score = a * (slope * g - (row.w_d2 * e + row.d1));
  } else {
    out.weight = a;
    out.d_score = a * (dg - row.d1);
  }
  if (kDropout) {
    // The constant part of G is dropped with the rest; what its rounding costs here is a rounding
    // of dV, not of a difference.
    out.weight = kept ? out.weight + row.c0 : 0.0f;
  }
  return out;
}

template <int kDim, bool kDropout>
__device__ __forceinline__ void key_tile(const BackwardParameters& p, const ScorePlace& at,
                                         KeysShared<kDim>& shared) {
  using T = Tile<kDim>;
  typename T::Scores scores, dg;
  form_scores<kDim>(at, shared.q, shared.k, scores);
  form_scores<kDim>(at, shared.d_o, shared.v, dg);
  SF_UNROLL
  for (int r = 0; r < T::kScoreRows; ++r) {
    const int row = at.y + 8 * r;
    const RowTerms terms = shared.terms[row];
    float coefficients[kAttentionDegree];
    SF_UNROLL
    for (int n = 0; n < kAttentionDegree; ++n) {
      coefficients[n] = terms.w * p.coefficients.x[n] + p.coefficients.h[n];
    }
    SF_UNROLL
    for (int c = 0; c < T::kScoreColumns; ++c) {
      const int column = at.x + 16 * c;
      const bool kept =
          !kDropout ||
          (shared.keep[row * T::kColumnWords + column / 32] >> (column % 32) & 1u) != 0;
      const WeightAndGradient x =
          key_element<kDropout>(p, terms, coefficients, scores[r][c], dg[r][c], kept);
      shared.weights[row][column] = x.weight;
      shared.d_scores[row][column] = x.d_score;
    }
  }
}

// Σ c0 dO over all queries of the head, dimensions e … e + 3.
template <int kDim>
__device__ __forceinline__ float4 sum_common(const BackwardParameters& p, int64_t head, int e) {
  float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  if (p.common != nullptr) {
    const float* chunk = p.common + head * p.chunks * kDim + e;
    for (int64_t n = 0; n < p.chunks; ++n) {
      add_scaled(sum, 1.0f, *reinterpret_cast<const float4*>(chunk + n * kDim));
    }
  }
  return sum;
}

template <int kDim>
__device__ __forceinline__ void write_keys(const BackwardParameters& p, const BlockPlace& block,
                                           uint64_t open, const typename Tile<kDim>::Sums& dk,
                                           const typename Tile<kDim>::Sums& dv) {
  const SumPlace<kDim> at;
  SF_UNROLL
  for (int q = 0; q < Tile<kDim>::kSumQuads; ++q) {
    const int e = at.dim + q * SumPlace<kDim>::kNextDim;
    const float4 common = sum_common<kDim>(p, block.head, e);
    SF_UNROLL
    for (int c = 0; c < Tile<kDim>::kSumColumns; ++c) {
      const int64_t j = block.first + at.column + c;
      if (j >= p.tokens) {
        continue;
      }
      float4 dk_out = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      float4 dv_out = dk_out;
      if ((open >> (at.column + c) & 1u) != 0) {
        add_scaled(dk_out, p.scale, dk[c][q]);
        dv_out = common;
        add_scaled(dv_out, p.dropout_scale, dv[c][q]);
      }
      store_quad(p.dk.row(block.b, block.h, j), e, p.dim, p.dk.quads, dk_out);
      store_quad(p.dv.row(block.b, block.h, j), e, p.dim, p.dv.quads, dv_out);
    }
  }
}

template <int kDim, bool kDropout>
__global__ void __launch_bounds__(kThreads, blocks_at_once(sizeof(KeysShared<kDim>), kDim))
    attention_backward_keys_kernel(const BackwardParameters p) {
  using T = Tile<kDim>;
  auto& shared = *reinterpret_cast<KeysShared<kDim>*>(dynamic_shared());
  const auto block = BlockPlace::of<T::kColumns>(p);
  uint64_t open = key_word(p, block.b, block.first / 32);
  if (T::kColumnWords == 2) {
    open |= uint64_t{key_word(p, block.b, block.first / 32 + 1)} << 32;
  }
  typename T::Sums dk, dv;
  clear<kDim>(dk);
  clear<kDim>(dv);
  if (open != 0) {
    const ScorePlace score_at = score_place();
    const SumPlace<kDim> sum_at;
    // A masked key is zeros here: what its column becomes is finite or not, but never written.
    load_rows<kDim>(p.k, block.b, block.h, block.first, open, p.dim, shared.k);
    load_rows<kDim>(p.v, block.b, block.h, block.first, open, p.dim, shared.v);
    for (int64_t query = 0; query < p.tokens; query += kRows) {
      __syncthreads();  // the last tile's sums are done
      const uint64_t present = bits_before(p.tokens, query, kRows);
      load_rows<kDim>(p.q, block.b, block.h, query, present, p.dim, shared.q);
      load_rows<kDim>(p.d_o, block.b, block.h, query, present, p.dim, shared.d_o);
      if (threadIdx.x < kRows) {
        // Zeros beyond the last query: A = 0, so nothing comes from them.
        const int64_t i = query + threadIdx.x;
        shared.terms[threadIdx.x] = i < p.tokens ? p.terms[block.head * p.tokens + i] : RowTerms{};
      }
      if (kDropout) {
        fill_keep_words<kRows * T::kColumnWords, T::kColumnWords>(
            p.keep, block.b, block.h, query, block.first / kTileKeys, shared.keep);
      }
      __syncthreads();
      key_tile<kDim, kDropout>(p, score_at, shared);
      __syncthreads();
      SF_UNROLL_4
      for (int row = 0; row < kRows; ++row) {
        add_row<kDim>(sum_at, row, shared.weights, shared.d_o, dv);
        add_row<kDim>(sum_at, row, shared.d_scores, shared.q, dk);
      }
    }
  }
  write_keys<kDim>(p, block, open, dk, dv);
}

}  // namespace stemfabric::attention::backward
