// The third kernel of the attention backward: dQ. A block keeps its queries and goes through all
// keys that may be attended to.
#pragma once

#include "kernels/attention/attention_backward_rows.cuh"

namespace stemfabric::attention::backward {

template <int kDim>
struct QueriesShared {
  typename Tile<kDim>::Columns q, d_o;
  typename Tile<kDim>::Rows k, v;
  typename Tile<kDim>::Weights d_scores;
  RowTerms terms[Tile<kDim>::kColumns];
  uint32_t keep[Tile<kDim>::kColumns];
};

// Score and dG -> dS. The coefficients of h' and exp are the same for all rows:
//   R'(a) g − w D2 exp(a) = h'(a) g + exp(a) (w g − w D2)
template <bool kDropout>
__device__ __forceinline__ float query_element(const BackwardParameters& p, const RowTerms& row,
                                               float score, float dg, bool kept) {
  const float a = exp_scaled(score - row.m, p.kappa) * row.inverse_l;
  if (kDropout) {
    dg = kept ? dg * p.dropout_scale : 0.0f;
  }
  if (!p.coefficients.polynomial) {
    return a * (dg - row.d1);
  }
  float h = p.h_slope[kAttentionDegree - 1];
  float e = p.x_slope[kAttentionDegree - 1];
  SF_UNROLL
  for (int r = kAttentionDegree - 2; r >= 0; --r) {
    h = h * a + p.h_slope[r];
    e = e * a + p.x_slope[r];
  }
  const float g = (dg - row.d0) * row.inverse_g;
  return a * (h * g + e * (row.w * g - row.w_d2) - row.d1);
}

template <int kDim, bool kDropout>
__device__ __forceinline__ void query_tile(const BackwardParameters& p, const ScorePlace& at,
                                           uint32_t open, QueriesShared<kDim>& shared) {
  using T = Tile<kDim>;
  typename T::Scores scores, dg;
  form_scores<kDim>(at, shared.k, shared.q, scores);
  form_scores<kDim>(at, shared.v, shared.d_o, dg);
  SF_UNROLL
  for (int c = 0; c < T::kScoreColumns; ++c) {
    const int column = at.x + 16 * c;
    const RowTerms terms = shared.terms[column];
    const uint32_t keep = kDropout ? shared.keep[column] : ~0u;
    SF_UNROLL
    for (int r = 0; r < T::kScoreRows; ++r) {
      const int row = at.y + 8 * r;
      const float d_score =
          query_element<kDropout>(p, terms, scores[r][c], dg[r][c], (keep >> row & 1u) != 0);
      // What a masked key's zeros gave may be infinite: exp of 0 − m.
      shared.d_scores[row][column] = (open >> row & 1u) != 0 ? d_score : 0.0f;
    }
  }
}

template <int kDim, bool kDropout>
__global__ void __launch_bounds__(kThreads, blocks_at_once(sizeof(QueriesShared<kDim>), kDim))
    attention_backward_queries_kernel(const BackwardParameters p) {
  using T = Tile<kDim>;
  auto& shared = *reinterpret_cast<QueriesShared<kDim>*>(dynamic_shared());
  const auto block = BlockPlace::of<T::kColumns>(p);
  const ScorePlace score_at = score_place();
  const SumPlace<kDim> sum_at;
  const uint64_t present = bits_before(p.tokens, block.first, T::kColumns);
  if (threadIdx.x < T::kColumns) {
    const int64_t i = block.first + threadIdx.x;
    shared.terms[threadIdx.x] = i < p.tokens ? p.terms[block.head * p.tokens + i] : RowTerms{};
  }
  load_rows<kDim>(p.q, block.b, block.h, block.first, present, p.dim, shared.q);
  load_rows<kDim>(p.d_o, block.b, block.h, block.first, present, p.dim, shared.d_o);
  typename T::Sums dq;
  clear<kDim>(dq);
  for (int64_t key = 0; key < p.tokens; key += kRows) {
    const uint32_t open = key_word(p, block.b, key / kRows);
    if (open == 0) {
      continue;
    }
    __syncthreads();  // the last tile's sums are done
    load_rows<kDim>(p.k, block.b, block.h, key, open, p.dim, shared.k);
    load_rows<kDim>(p.v, block.b, block.h, key, open, p.dim, shared.v);
    if (kDropout) {
      fill_keep_words<T::kColumns, 1>(p.keep, block.b, block.h, block.first, key / kTileKeys,
                                      shared.keep);
    }
    __syncthreads();
    query_tile<kDim, kDropout>(p, score_at, open, shared);
    __syncthreads();
    SF_UNROLL_4
    for (int row = 0; row < kRows; ++row) {
      add_row<kDim>(sum_at, row, shared.d_scores, shared.k, dq);
    }
  }
  SF_UNROLL
  for (int c = 0; c < T::kSumColumns; ++c) {
    const int64_t i = block.first + sum_at.column + c;
    SF_UNROLL
    for (int n = 0; n < T::kSumQuads && i < p.tokens; ++n) {
      float4 out = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      add_scaled(out, p.scale, dq[c][n]);
      store_quad(p.dq.row(block.b, block.h, i), sum_at.dim + n * SumPlace<kDim>::kNextDim, p.dim,
                 p.dq.quads, out);
    }
  }
}

}  // namespace stemfabric::attention::backward
