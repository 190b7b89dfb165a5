// The block of the forward kernel, in float32: two sweeps over the keys, nothing of size T x T in
// memory.
//
//   sweep 1:  S = Q Kᵀ;  m = max S;  power sums s_r = Σ e^(r (S − m)/√D), r = 1 … 9;  l = s_1
//   per row:  Σ Aʳ = s_r / lʳ gives z2, w, t, g, ω and the row's coefficients c_r = h_r + w x_r
//   sweep 2:  S again, A;  O += R(A) V;  in training O2 += (e^A − 1) V and U += ψ(A) V;  V̂ = Σ V
//   per row:  O, O2, U as docs/attention.md has them
//
// Bound by multiply-adds: D per score and sweep, D per weighted sum, about 60 besides per element.
// Memory: Q and the results once, K (twice) and V once per block of queries, from the L2 cache.
//
// A block has 4 warps and a tile of queries; a warp owns kWarpRows of them and needs the others
// only to load tiles of 32 keys. A lane (group, column) = (lane / 8, lane % 8) owns the queries
// group + 4 i and, of a tile's scores, the keys column + 8 j: a register tile of kRows x 4. The
// weights go through shared memory to the product with V, where the lane owns the same queries and
// kDim / 8 columns of V. Strides of shared memory are such that no access has bank conflicts.
//
// Deterministic: every sum has an order that depends on T and D alone, also for training and
// inference.
#pragma once

#include "kernels/attention/attention_forward_kind.cuh"
#include "kernels/attention/attention_forward_tiles.cuh"

namespace stemfabric::attention::forward {

template <class Kind>
class ForwardBlock {
 public:
  __device__ __forceinline__ explicit ForwardBlock(const ForwardParameters& p)
      : p_(p), shared_(*reinterpret_cast<ForwardShared<Kind>*>(dynamic_shared())) {
    const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
    warp_ = static_cast<int>(threadIdx.x) / kWarpLanes;
    group_ = lane / kColumns;
    column_ = lane % kColumns;
    const int64_t head = int64_t{blockIdx.x} / p.tiles;
    first_ = int64_t{blockIdx.x} % p.tiles * Kind::kBlockRows;
    b_ = head / p.heads;
    h_ = head % p.heads;
  }

  __device__ __forceinline__ void run() {
    load_rows<kThreads, Kind::kBlockRows, Kind::kDim, Kind::kStride>(
        p_.q.head(b_, h_), p_.q.token_stride, first_, p_.dim, p_.vector_loads, shared_.q,
        [&](int row) { return first_ + row < p_.tokens; });
    const int64_t keys = sum_powers();
    if (keys == 0) {
      write_empty();
      return;
    }
    sum_values();
    write();
  }

 private:
  // The place in the tile of this lane's row i.
  __device__ __forceinline__ int row(int i) const {
    return warp_ * Kind::kWarpRows + group_ + kGroups * i;
  }

  // Loads the tile of keys from `first` on; returns which of them may be attended to. If there are
  // none, nothing is loaded and no thread waits.
  template <bool kValues>
  __device__ __forceinline__ unsigned load_tile(int64_t first) {
    const unsigned open = open_keys(p_.mask, b_, first, p_.tokens);
    if (open == 0) {
      return 0;
    }
    const auto is_open = [open](int key) { return (open >> key & 1u) != 0; };
    __syncthreads();  // the tile before is no longer read
    load_rows<kThreads, kTileKeys, Kind::kDim, Kind::kStride>(
        p_.k.head(b_, h_), p_.k.token_stride, first, p_.dim, p_.vector_loads, shared_.k, is_open);
    if constexpr (kValues) {
      load_rows<kThreads, kTileKeys, Kind::kDim, Kind::kDim>(
          p_.v.head(b_, h_), p_.v.token_stride, first, p_.dim, p_.vector_loads, shared_.v, is_open);
    }
    __syncthreads();
    return open;
  }

  // q·k of this lane's rows and keys; −∞ where the key may not be attended to.
  __device__ __forceinline__ void score_tile(unsigned open,
                                             float (&scores)[Kind::kRows][kLaneKeys]) const {
    SF_UNROLL
    for (int i = 0; i < Kind::kRows; ++i) {
      SF_UNROLL
      for (int j = 0; j < kLaneKeys; ++j) {
        scores[i][j] = 0.0f;
      }
    }
    const float* q = shared_.q + row(0) * Kind::kStride;
    const float* k = shared_.k + column_ * Kind::kStride;
    for (int e = 0; e < Kind::kDim; e += 4) {
      float4 key[kLaneKeys];
      SF_UNROLL
      for (int j = 0; j < kLaneKeys; ++j) {
        key[j] = load4(k + j * kColumns * Kind::kStride + e);
      }
      SF_UNROLL
      for (int i = 0; i < Kind::kRows; ++i) {
        const float4 query = load4(q + i * kGroups * Kind::kStride + e);
        SF_UNROLL
        for (int j = 0; j < kLaneKeys; ++j) {
          scores[i][j] += query.x * key[j].x;
          scores[i][j] += query.y * key[j].y;
          scores[i][j] += query.z * key[j].z;
          scores[i][j] += query.w * key[j].w;
        }
      }
    }
    if (open == kFullWarp) {
      return;
    }
    SF_UNROLL
    for (int j = 0; j < kLaneKeys; ++j) {
      if ((open >> (column_ + j * kColumns) & 1u) == 0) {
        SF_UNROLL
        for (int i = 0; i < Kind::kRows; ++i) {
          scores[i][j] = -kInfinity;
        }
      }
    }
  }

  // Sweep 1; returns how many keys may be attended to.
  __device__ __forceinline__ int64_t sum_powers() {
    PowerSums<Kind::kPowers> sums[Kind::kRows];
    int64_t keys = 0;
    for (int64_t first = 0; first < p_.tokens; first += kTileKeys) {
      const unsigned open = load_tile<false>(first);
      if (open == 0) {
        continue;
      }
      keys += __popc(open);
      float scores[Kind::kRows][kLaneKeys];
      score_tile(open, scores);
      SF_UNROLL
      for (int i = 0; i < Kind::kRows; ++i) {
        sums[i].add(scores[i], p_.kappa);
      }
    }
    SF_UNROLL
    for (int i = 0; i < Kind::kRows; ++i) {
      sums[i].reduce(p_.kappa);
      if (column_ == 0) {
        finish_row(p_.coefficients, sums[i], static_cast<float>(keys), shared_.terms[row(i)],
                   shared_.sums[row(i)]);
      }
    }
    return keys;  // what was written is read behind the barriers of the next tile
  }

  // Sweep 2.
  __device__ __forceinline__ void sum_values() {
    SF_UNROLL
    for (int s = 0; s < Kind::kSums; ++s) {
      SF_UNROLL
      for (int i = 0; i < Kind::kRows; ++i) {
        SF_UNROLL
        for (int e = 0; e < Kind::kChunks * Kind::kWidth; ++e) {
          sum_[s][i][e] = 0.0f;
        }
      }
    }
    float value_sum = 0.0f;
    for (int64_t first = 0; first < p_.tokens; first += kTileKeys) {
      const unsigned open = load_tile<true>(first);
      if (open == 0) {
        continue;
      }
      if constexpr (Kind::kConstant) {
        value_sum += sum_column();
      }
      weigh_tile(first, open);
      __syncwarp();
      add_products();
    }
    if constexpr (Kind::kConstant) {
      shared_.value_sum[threadIdx.x] = value_sum;
      __syncthreads();
    }
  }

  // This thread's part of V̂: one column, some of the tile's keys.
  __device__ __forceinline__ float sum_column() const {
    constexpr int kKeys = kTileKeys * Kind::kDim / kThreads;
    const int thread = static_cast<int>(threadIdx.x);
    const float* v = shared_.v + thread / Kind::kDim * kKeys * Kind::kDim + thread % Kind::kDim;
    float sum = 0.0f;
    SF_UNROLL
    for (int j = 0; j < kKeys; ++j) {
      sum += v[j * Kind::kDim];
    }
    return sum;
  }
  __device__ __forceinline__ float value_sum(int e) const {
    float sum = shared_.value_sum[e];
    SF_UNROLL
    for (int n = 1; n < kThreads / Kind::kDim; ++n) {
      sum += shared_.value_sum[n * Kind::kDim + e];
    }
    return sum;
  }

  // Bit i · kLaneKeys + j: the weight of this lane's row i and key j is kept. Lanes of two
  // neighbouring columns need the same calls of the generator: each makes half of them.
  __device__ __forceinline__ unsigned kept(int64_t first, unsigned open) const {
    constexpr int kHalf = Kind::kRows / 2;
    const int odd = column_ % 2;
    unsigned own = 0;
    SF_UNROLL
    for (int i = 0; i < kHalf; ++i) {
      own |= keep_bits(p_.keep, b_, h_, first_ + row(odd * kHalf + i), first, column_ / 2)
             << (8 * i);
    }
    const unsigned other = __shfl_xor_sync(kFullWarp, own, 1);
    const unsigned both = odd == 0 ? own | other << (8 * kHalf) : other | own << (8 * kHalf);
    unsigned bits = 0;
    SF_UNROLL
    for (int i = 0; i < Kind::kRows; ++i) {
      SF_UNROLL
      for (int j = 0; j < kLaneKeys; ++j) {
        const unsigned bit = both >> (8 * i + 2 * j + odd) & open >> (column_ + j * kColumns) & 1u;
        bits |= bit << (i * kLaneKeys + j);
      }
    }
    return bits;
  }

  // The weights of the tile that meet V, to shared memory.
  __device__ __forceinline__ void weigh_tile(int64_t first, unsigned open) {
    float scores[Kind::kRows][kLaneKeys];
    score_tile(open, scores);
    const unsigned bits = Kind::kDropout ? kept(first, open) : 0;
    SF_UNROLL
    for (int i = 0; i < Kind::kRows; ++i) {
      const RowTerms terms = shared_.terms[row(i)];
      const int place = (group_ + kGroups * i) * kWeightStride + column_;
      SF_UNROLL
      for (int j = 0; j < kLaneKeys; ++j) {
        const float a = multiply(exp_scaled(scores[i][j] - terms.m, p_.kappa), terms.inverse_l);
        const bool keep = !Kind::kDropout || (bits >> (i * kLaneKeys + j) & 1u) != 0;
        weigh(terms, a, keep, place + j * kColumns);
      }
    }
  }

  __device__ __forceinline__ void weigh(const RowTerms& terms, float a, bool keep, int place) {
    float(&weights)[Kind::kSums][Kind::kWarpRows * kWeightStride] = shared_.weights[warp_];
    if constexpr (!Kind::kPolynomial) {
      weights[kSumOut][place] = keep ? a : 0.0f;
    } else {
      float slope = 0.0f;
      float out = Kind::kSums == 3 ? polynomial(terms.c, a, slope) : polynomial(terms.c, a);
      if constexpr (Kind::kDropout) {  // V̂ is of no use: the constant part is dropped in places
        out = keep ? terms.c0 + out : 0.0f;
      }
      weights[kSumOut][place] = out;
      if constexpr (Kind::kSums == 3) {
        float inner = polynomial(p_.coefficients.x, a);
        if constexpr (Kind::kDropout) {
          inner = keep ? 1.0f + inner : 0.0f;
        }
        weights[kSumInner][place] = inner;
        weights[kSumSlope][place] = keep ? a * slope : 0.0f;
      }
    }
  }

  // Adds the products of the tile's weights with V.
  __device__ __forceinline__ void add_products() {
    const float* v = shared_.v + column_ * Kind::kWidth;
    for (int j = 0; j < kTileKeys; j += 4) {
      float value[4][Kind::kChunks][Kind::kWidth];
      SF_UNROLL
      for (int n = 0; n < 4; ++n) {
        SF_UNROLL
        for (int c = 0; c < Kind::kChunks; ++c) {
          load_vector(v + (j + n) * Kind::kDim + c * kColumns * Kind::kWidth, value[n][c]);
        }
      }
      SF_UNROLL
      for (int s = 0; s < Kind::kSums; ++s) {
        SF_UNROLL
        for (int i = 0; i < Kind::kRows; ++i) {
          float weight[4];
          load_vector(&shared_.weights[warp_][s][(group_ + kGroups * i) * kWeightStride + j],
                      weight);
          SF_UNROLL
          for (int n = 0; n < 4; ++n) {
            SF_UNROLL
            for (int e = 0; e < Kind::kChunks * Kind::kWidth; ++e) {
              sum_[s][i][e] += weight[n] * value[n][e / Kind::kWidth][e % Kind::kWidth];
            }
          }
        }
      }
    }
  }

  __device__ __forceinline__ void write() {
    SF_UNROLL
    for (int c = 0; c < Kind::kChunks; ++c) {
      const int e = (c * kColumns + column_) * Kind::kWidth;
      float constant[Kind::kWidth] = {};
      if constexpr (Kind::kConstant) {
        SF_UNROLL
        for (int n = 0; n < Kind::kWidth; ++n) {
          constant[n] = value_sum(e + n);
        }
      }
      SF_UNROLL
      for (int i = 0; i < Kind::kRows; ++i) {
        write_chunk(i, c, e, constant);
      }
    }
    if (p_.training) {
      SF_UNROLL
      for (int i = 0; i < Kind::kRows; ++i) {
        const RowSums& sums = shared_.sums[row(i)];
        write_stats(i, shared_.terms[row(i)].m, sums.l, sums.w, sums.g);
      }
    }
  }

  // Columns e … e + kWidth − 1 of row i.
  __device__ __forceinline__ void write_chunk(int i, int c, int e,
                                              const float (&constant)[Kind::kWidth]) const {
    const RowSums sums = shared_.sums[row(i)];
    const float c0 = Kind::kConstant ? shared_.terms[row(i)].c0 : 0.0f;
    const float scale = Kind::kDropout ? p_.keep_scale : 1.0f;
    float o[Kind::kWidth], o2[Kind::kWidth], u[Kind::kWidth];
    SF_UNROLL
    for (int n = 0; n < Kind::kWidth; ++n) {
      const int at = c * Kind::kWidth + n;
      if constexpr (!Kind::kPolynomial) {
        o[n] = u[n] = scale * sum_[kSumOut][i][at];
        o2[n] = 0.0f;  // multiplied by γ in the backward
      } else {
        o[n] = multiply(scale, multiply_add(c0, constant[n], sum_[kSumOut][i][at])) / sums.g;
        if constexpr (Kind::kSums == 3) {
          const float inner = scale * (constant[n] + sum_[kSumInner][i][at]) / sums.z2;
          const float slope = scale * sum_[kSumSlope][i][at] - sums.w * sums.t * inner;
          o2[n] = p_.coefficients.normalized ? (inner - o[n]) / sums.g : inner;
          u[n] = p_.coefficients.normalized ? (slope - sums.omega * o[n]) / sums.g : slope;
        }
      }
    }
    store(p_.o, i, e, o);
    if (Kind::kTraining && p_.training) {
      store(p_.o2, i, e, o2);
      store(p_.u, i, e, u);
    }
  }

  __device__ __forceinline__ void store(const Rows<float>& rows, int i, int e,
                                        const float (&from)[Kind::kWidth]) const {
    const int64_t query = first_ + row(i);
    if (query >= p_.tokens || e >= p_.dim) {
      return;
    }
    float* to = rows.head(b_, h_) + query * rows.token_stride + e;
    if (p_.vector_stores) {
      store_vector(to, from);
      return;
    }
    SF_UNROLL
    for (int n = 0; n < Kind::kWidth; ++n) {
      if (e + n < p_.dim) {
        to[n] = from[n];
      }
    }
  }

  __device__ __forceinline__ void write_stats(int i, float m, float l, float w, float g) const {
    if (first_ + row(i) < p_.tokens && column_ < 4) {
      float* to = p_.stats.row(b_, h_, first_ + row(i));
      to[column_] = column_ == 0 ? m : column_ == 1 ? l : column_ == 2 ? w : g;
    }
  }

  // No key may be attended to.
  __device__ __forceinline__ void write_empty() const {
    const float zero[Kind::kWidth] = {};
    for (int i = 0; i < Kind::kRows; ++i) {
      for (int c = 0; c < Kind::kChunks; ++c) {
        const int e = (c * kColumns + column_) * Kind::kWidth;
        store(p_.o, i, e, zero);
        if (p_.training) {
          store(p_.o2, i, e, zero);
          store(p_.u, i, e, zero);
        }
      }
      if (p_.training) {
        write_stats(i, 0.0f, kInfinity, 0.0f, 1.0f);
      }
    }
  }

  const ForwardParameters& p_;
  ForwardShared<Kind>& shared_;
  int warp_, group_, column_;
  int64_t b_, h_, first_;
  float sum_[Kind::kSums][Kind::kRows][Kind::kChunks * Kind::kWidth];
};

}  // namespace stemfabric::attention::forward
