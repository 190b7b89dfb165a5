// The block of the forward kernel for bf16, on the tensor cores: one sweep over the keys, nothing
// of size T x T in memory.
//
//   per tile:  S = Q Kᵀ;  p = bf16(e^((S − ref)/√D));  N_r += pʳ V,  s_r += Σ pʳ for r = 1 … 4, the
//              powers in bf16, the sums in float32;  V̂ += Σ V;  ref follows the largest score
//   per row:   M_r = N_r / lʳ = Σ Aʳ V,  Σ Aʳ = s_r / lʳ,  l = s_1
//              z2, w, t, g, ω from the Σ Aʳ;  O, O2 and U are sums over r of the M_r
//              (docs/attention.md)
//
// On [0, 1] the functions of A are polynomials of degree 4 here, so that no second sweep is needed:
// what the weights are to be is decided after the last key. Softmax is degree 1. What rounds to
// bf16 is a power of e^…, once for the sum and its normaliser; G never is.
//
// Per query and key: one exponential, 4 packed products and D (1 + 4) multiply-adds of the tensor
// cores. Memory: Q and the results once, K and V once per block of queries, from the L2 cache.
//
// A block has 4 warps; a warp owns 16 queries and kValues columns of V, whose N_r stay in its
// registers. Tiles of 32 keys; the next one is copied to shared memory while this one is summed.
// Deterministic: every sum has an order that depends on T and D alone.
#pragma once

#include "kernels/attention/attention_bf16_device.cuh"

namespace stemfabric::attention::forward_bf16 {

inline constexpr int kWarps = 4;
inline constexpr int kThreads = kWarps * kWarpLanes;
inline constexpr int kSlabs = kTileKeys / 16;  // a product takes 16 keys
inline constexpr int kTileCs = kTileKeys / 8;

template <int kDimT, bool kPolynomialT, bool kDropoutT>
struct Kind {
  static constexpr int kDim = kDimT;  // padded head dimension
  static constexpr bool kPolynomial = kPolynomialT;
  static constexpr bool kDropout = kDropoutT;
  static constexpr int kDegree = kPolynomial ? kMomentDegree : 1;
  // Σ V, where no weight is dropped; else Σ keep V is one more moment.
  static constexpr bool kConstant = kPolynomial && !kDropout;
  static constexpr int kMoments = kDegree + (kPolynomial && kDropout ? 1 : 0);
  static constexpr int kMostValues = !kPolynomial ? 128 : kDropout ? 32 : 64;
  static constexpr int kValues = kDim < kMostValues ? kDim : kMostValues;  // columns of V, a warp's
  static constexpr int kParts = kDim / kValues;  // warps that share their queries
  static constexpr int kBlockRows = kWarps / kParts * 16;
  static constexpr int kStride = kTileStride<kDim>;
  static constexpr int kColumnCs = kValues / 8;
  static constexpr int kSteps = kDim / 16;
  static constexpr bool kKeepQueries = kDim <= 64;  // in registers
  static constexpr int kBlocks = kMoments * kValues <= 80 ? 4 : kMoments * kValues <= 128 ? 3 : 2;
};

struct Parameters {
  Rows<const Bf16> q, k, v;
  KeyMask mask;
  Rows<Bf16> o, o2;
  Rows<float> u;
  StatRows<float> stats;
  MomentCoefficients coefficients;
  Keep keep;
  float keep_scale, kappa;
  int64_t tokens, heads, tiles;
  int dim;
  bool training, vector_loads, pair_stores;
};

template <class K>
struct alignas(16) Shared {
  Bf16 q[K::kBlockRows * K::kStride];
  Bf16 k[2][kTileKeys * K::kStride];
  Bf16 v[2][kTileKeys * K::kStride];
  float value_sum[2 * kThreads];
};

// What a row's results are made of: O = (c0 M_0 + Σ_r c[r] N_r), and so on; 1/lʳ is in the factors.
struct RowFactors {
  float c0, inverse_g, inverse_z2, w_t, omega;
  float out[kMomentDegree], inner[kMomentDegree], slope[kMomentDegree];
};

template <class K>
class Block {
 public:
  __device__ __forceinline__ explicit Block(const Parameters& p)
      : p_(p), shared_(*reinterpret_cast<Shared<K>*>(dynamic_shared())) {
    const int thread = static_cast<int>(threadIdx.x);
    const int warp = thread / kWarpLanes;
    group_ = thread % kWarpLanes / 4;
    pair_ = thread % 4;
    warp_row_ = warp / K::kParts * 16;
    part_ = warp % K::kParts;
    const int64_t head = int64_t{blockIdx.x} / p.tiles;
    first_ = int64_t{blockIdx.x} % p.tiles * K::kBlockRows;
    b_ = head / p.heads;
    h_ = head % p.heads;
  }

  __device__ __forceinline__ void run() {
    copy_rows<kThreads, K::kBlockRows, K::kDim>(p_.q.head(b_, h_), p_.q.token_stride, first_,
                                                p_.dim, p_.vector_loads, shared_.q,
                                                [&](int row) { return first_ + row < p_.tokens; });
    Tile tile = next_tile(0);
    copy_tile(tile, 0);
    wait_for_copies();
    __syncthreads();
    load_queries();
    for (int buffer = 0; tile.open != 0; buffer ^= 1) {
      const Tile next = next_tile(tile.first + kTileKeys);
      copy_tile(next, buffer ^ 1);
      keys_ += __popc(tile.open);
      add_tile(tile, shared_.k[buffer], shared_.v[buffer]);
      wait_for_copies();
      __syncthreads();  // the next tile is there, and this one's place is free
      tile = next;
    }
    if constexpr (K::kConstant) {
      shared_.value_sum[2 * threadIdx.x] = value_sum_[0];
      shared_.value_sum[2 * threadIdx.x + 1] = value_sum_[1];
      __syncthreads();
    }
    write_row(0);
    write_row(1);
  }

 private:
  struct Tile {
    int64_t first;
    unsigned open;  // keys that may be attended to; 0: there is no such tile
  };

  // The first tile from `first` on with a key that may be attended to.
  __device__ __forceinline__ Tile next_tile(int64_t first) const {
    unsigned open = 0;
    while (first < p_.tokens && (open = open_keys(p_.mask, b_, first, p_.tokens)) == 0) {
      first += kTileKeys;
    }
    return {first, open};
  }

  __device__ __forceinline__ void copy_tile(const Tile& tile, int buffer) {
    if (tile.open == 0) {
      return;
    }
    const auto is_open = [&](int key) { return (tile.open >> key & 1u) != 0; };
    copy_rows<kThreads, kTileKeys, K::kDim>(p_.k.head(b_, h_), p_.k.token_stride, tile.first,
                                            p_.dim, p_.vector_loads, shared_.k[buffer], is_open);
    copy_rows<kThreads, kTileKeys, K::kDim>(p_.v.head(b_, h_), p_.v.token_stride, tile.first,
                                            p_.dim, p_.vector_loads, shared_.v[buffer], is_open);
  }

  __device__ __forceinline__ FragmentA queries(int step) const {
    return load_a(shared_.q + warp_row_ * K::kStride + step * 16, K::kStride);
  }
  __device__ __forceinline__ void load_queries() {
    if constexpr (K::kKeepQueries) {
      SF_UNROLL
      for (int step = 0; step < K::kSteps; ++step) {
        q_[step] = queries(step);
      }
    }
  }

  __device__ __forceinline__ void add_tile(const Tile& tile, const Bf16* k, const Bf16* v) {
    FragmentC scores[kTileCs];
    score_tile(tile.open, k, scores);
    follow_largest(scores);
    unsigned kept[2] = {~0u, ~0u};
    if constexpr (K::kDropout) {
      SF_UNROLL
      for (int i = 0; i < 2; ++i) {
        kept[i] = keep_bits(p_.keep, b_, h_, query(i), tile.first, pair_);
      }
    }
    SF_UNROLL
    for (int slab = 0; slab < kSlabs; ++slab) {
      SF_UNROLL
      for (int n = 2 * slab; n < 2 * slab + 2; ++n) {
        SF_UNROLL
        for (int i = 0; i < 4; ++i) {
          scores[n].value[i] =
              exp2_fast(multiply_add(scores[n].value[i], p_.kappa, -reference_[i / 2]));
        }
      }
      add_slab(pack_a(scores[2 * slab], scores[2 * slab + 1]), kept, slab, v);
    }
    if constexpr (K::kConstant) {
      add_values(v);
    }
  }

  // q·k; −∞ where the key may not be attended to.
  __device__ __forceinline__ void score_tile(unsigned open, const Bf16* k,
                                             FragmentC (&scores)[kTileCs]) const {
    SF_UNROLL
    for (int n = 0; n < kTileCs; ++n) {
      SF_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int key = 8 * n + 2 * pair_ + i % 2;
        scores[n].value[i] = (open >> key & 1u) != 0 ? 0.0f : -kInfinity;
      }
    }
    SF_UNROLL
    for (int step = 0; step < K::kSteps; ++step) {
      const FragmentA q = K::kKeepQueries ? q_[step] : queries(step);
      SF_UNROLL
      for (int n = 0; n < kTileCs; n += 2) {
        const TwoB keys = load_b_of_rows(k + 8 * n * K::kStride + step * 16, K::kStride);
        mma(scores[n], q, keys.b[0]);
        mma(scores[n + 1], q, keys.b[1]);
      }
    }
  }

  // Moves the rows' references where a weight would exceed 2^kSlack: a few times in all. The fourth
  // powers stay below 2^(4 kSlack).
  __device__ __forceinline__ void follow_largest(const FragmentC (&scores)[kTileCs]) {
    constexpr float kSlack = 8.0f;
    float top[2];
    bool exceeded = false;
    SF_UNROLL
    for (int i = 0; i < 2; ++i) {
      top[i] = fmaxf(scores[0].value[2 * i], scores[0].value[2 * i + 1]);
      SF_UNROLL
      for (int n = 1; n < kTileCs; ++n) {
        top[i] = fmaxf(top[i], fmaxf(scores[n].value[2 * i], scores[n].value[2 * i + 1]));
      }
      largest_[i] = fmaxf(largest_[i], top[i]);
      exceeded = exceeded || multiply(top[i], p_.kappa) - reference_[i] > kSlack;
    }
    if (__any_sync(kFullWarp, exceeded ? 1 : 0) == 0) {
      return;
    }
    SF_UNROLL
    for (int i = 0; i < 2; ++i) {
      const float to = multiply(warp_max<4>(top[i]), p_.kappa);
      if (to - reference_[i] > kSlack) {
        rescale(i, exp2_fast(reference_[i] - to));
        reference_[i] = to;
      }
    }
  }

  __device__ __forceinline__ void rescale(int row, float factor) {
    float power = factor;
    SF_UNROLL
    for (int r = 0; r < K::kDegree; ++r) {
      SF_UNROLL
      for (int i = 2 * row; i < 2 * row + 2; ++i) {
        sum_[r].value[i] *= power;
        SF_UNROLL
        for (int n = 0; n < K::kColumnCs; ++n) {
          moment_[r][n].value[i] *= power;
        }
      }
      power *= factor;
    }
  }

  // Adds what 16 keys contribute; p holds their weights.
  __device__ __forceinline__ void add_slab(const FragmentA& p, const unsigned (&kept)[2], int slab,
                                           const Bf16* v) {
    FragmentA weight[K::kMoments];
    weight[0] = p;
    SF_UNROLL
    for (int r = 1; r < K::kDegree; ++r) {
      SF_UNROLL
      for (int w = 0; w < 4; ++w) {
        weight[r].word[w] = multiply_bf16(weight[r - 1].word[w], p.word[w]);
      }
    }
    // Every column of the product is the row sum: every lane has it.
    const FragmentB ones{{kOnes, kOnes}};
    SF_UNROLL
    for (int r = 0; r < K::kDegree; ++r) {
      mma(sum_[r], weight[r], ones);
    }
    if constexpr (K::kDropout) {
      drop(kept, slab, weight);
    }
    v += slab * 16 * K::kStride + part_ * K::kValues;
    SF_UNROLL
    for (int n = 0; n < K::kColumnCs; n += 2) {
      const TwoB values = load_b_of_columns(v + 8 * n, K::kStride);
      SF_UNROLL
      for (int r = 0; r < K::kMoments; ++r) {
        mma(moment_[r][n], weight[r], values.b[0]);
        mma(moment_[r][n + 1], weight[r], values.b[1]);
      }
    }
  }

  __device__ __forceinline__ void drop(const unsigned (&kept)[2], int slab,
                                       FragmentA (&weight)[K::kMoments]) const {
    SF_UNROLL
    for (int w = 0; w < 4; ++w) {
      const unsigned two = kept[w % 2] >> (2 * (2 * slab + w / 2));
      const uint32_t mask = ((two & 1u) != 0 ? 0xFFFFu : 0u) | ((two & 2u) != 0 ? 0xFFFF0000u : 0u);
      SF_UNROLL
      for (int r = 0; r < K::kDegree; ++r) {
        weight[r].word[w] &= mask;
      }
      if constexpr (K::kMoments > K::kDegree) {
        weight[K::kDegree].word[w] = kOnes & mask;
      }
    }
  }

  // This thread's part of V̂: two columns, some of the tile's keys.
  static constexpr int kColumnPairs = K::kDim / 2;
  static constexpr int kKeysOfThread = kTileKeys * kColumnPairs / kThreads;
  __device__ __forceinline__ void add_values(const Bf16* v) {
    const int thread = static_cast<int>(threadIdx.x);
    const Bf16* at =
        v + thread / kColumnPairs * kKeysOfThread * K::kStride + thread % kColumnPairs * 2;
    SF_UNROLL
    for (int j = 0; j < kKeysOfThread; ++j) {
      const auto pair = load_vector<2>(at + j * K::kStride);
      value_sum_[0] += pair.lane[0];
      value_sum_[1] += pair.lane[1];
    }
  }
  __device__ __forceinline__ float value_sum(int e) const {
    float sum = shared_.value_sum[e];
    SF_UNROLL
    for (int n = K::kDim; n < 2 * kThreads; n += K::kDim) {
      sum += shared_.value_sum[n + e];
    }
    return sum;
  }

  __device__ __forceinline__ int64_t query(int i) const {
    return first_ + warp_row_ + group_ + 8 * i;
  }

  // All of this lane's row i.
  __device__ __forceinline__ void write_row(int i) {
    const float m = warp_max<4>(largest_[i]);  // whole warps
    const RowFactors row = finish_row(i, m);
    const int64_t query = this->query(i);
    if (query >= p_.tokens) {
      return;
    }
    SF_UNROLL
    for (int n = 0; n < K::kColumnCs; ++n) {
      write_pair(row, i, n, query);
    }
  }

  // The factors of row i; writes its statistics. Without any key all is 0.
  __device__ __forceinline__ RowFactors finish_row(int i, float m) const {
    const bool empty = keys_ == 0;
    const float l = sum_[0].value[2 * i];
    const float inverse = empty ? 0.0f : 1.0f / l;
    AttentionRowStats stats{0.0f, kInfinity, 0.0f, 1.0f};
    if (!empty) {
      stats.m = m;
      stats.l = multiply(l, exp2_fast(reference_[i] - multiply(m, p_.kappa)));
    }
    RowFactors row{};
    row.inverse_g = 1.0f;
    if constexpr (!K::kPolynomial) {
      row.out[0] = inverse;
    } else if (!empty) {
      finish_polynomial(i, inverse, row, stats);
    }
    write_stats(i, stats);
    return row;
  }

  __device__ __forceinline__ void finish_polynomial(int i, float inverse, RowFactors& row,
                                                    AttentionRowStats& stats) const {
    const MomentCoefficients& c = p_.coefficients;
    const auto keys = static_cast<float>(keys_);
    float mean[kMomentDegree];  // Σ A^(r + 1)
    SF_UNROLL
    for (int r = 0; r < kMomentDegree; ++r) {
      mean[r] = sum_[r].value[2 * i];
      SF_UNROLL
      for (int n = 0; n <= r; ++n) {
        mean[r] *= inverse;
      }
    }
    float z = 0.0f, t = 0.0f;
    SF_UNROLL
    for (int r = kMomentDegree - 1; r >= 0; --r) {
      const auto degree = static_cast<float>(r + 1);
      z += c.x[r] * mean[r];
      t += degree * c.x[r] * mean[r];
      row.omega += degree * c.h[r] * mean[r];
    }
    row.inverse_z2 = 1.0f / (keys + z);
    stats.w = c.gamma * row.inverse_z2;
    row.w_t = stats.w * t;
    row.c0 = c.b + stats.w;
    float weights = 0.0f;  // their sum, without c0
    float power = inverse;
    SF_UNROLL
    for (int r = 0; r < kMomentDegree; ++r) {
      const float factor = c.h[r] + stats.w * c.x[r];
      weights += factor * mean[r];
      row.out[r] = factor * power;
      row.inner[r] = c.x[r] * power;
      row.slope[r] = static_cast<float>(r + 1) * row.out[r];
      power *= inverse;
    }
    if (c.normalized) {
      stats.g = keys * row.c0 + weights;
      row.inverse_g = 1.0f / stats.g;
    }
  }

  __device__ __forceinline__ void write_stats(int i, const AttentionRowStats& stats) const {
    if (p_.training && part_ == 0 && query(i) < p_.tokens) {
      float* to = p_.stats.row(b_, h_, query(i));
      to[pair_] = pair_ == 0 ? stats.m : pair_ == 1 ? stats.l : pair_ == 2 ? stats.w : stats.g;
    }
  }

  // Two neighbouring columns of row i. O2 and U are made of what is stored of O, and U of what is
  // stored of O2, so that in the backward Σ_j dS_ij is still 0.
  __device__ __forceinline__ void write_pair(const RowFactors& row, int i, int n,
                                             int64_t query) const {
    const float scale = K::kDropout ? p_.keep_scale : 1.0f;
    const int e = part_ * K::kValues + 8 * n + 2 * pair_;
    float o[2], o2[2], u[2];
    SF_UNROLL
    for (int c = 0; c < 2; ++c) {
      const int at = 2 * i + c;
      if constexpr (!K::kPolynomial) {
        o[c] = u[c] = scale * row.out[0] * moment_[0][n].value[at];
        o2[c] = 0.0f;  // multiplied by γ in the backward
      } else {
        const float zeroth =
            K::kConstant ? value_sum(e + c) : moment_[K::kMoments - 1][n].value[at];
        float out = row.c0 * zeroth, inner = zeroth, slope = 0.0f;
        SF_UNROLL
        for (int r = 0; r < kMomentDegree; ++r) {
          out += row.out[r] * moment_[r][n].value[at];
          inner += row.inner[r] * moment_[r][n].value[at];
          slope += row.slope[r] * moment_[r][n].value[at];
        }
        const bool normalized = p_.coefficients.normalized;
        o[c] = round_to_bf16(scale * out * row.inverse_g);
        inner *= scale * row.inverse_z2;
        o2[c] = round_to_bf16(normalized ? (inner - o[c]) * row.inverse_g : inner);
        slope *= scale;
        if (normalized) {
          slope = (slope - (row.omega + row.w_t) * o[c]) * row.inverse_g;
        }
        u[c] = slope - row.w_t * o2[c];
      }
    }
    store_pair(p_.o.head(b_, h_) + query * p_.o.token_stride, e, p_.dim, p_.pair_stores, o[0],
               o[1]);
    if (p_.training) {
      store_pair(p_.o2.head(b_, h_) + query * p_.o2.token_stride, e, p_.dim, p_.pair_stores, o2[0],
                 o2[1]);
      store_pair(p_.u.head(b_, h_) + query * p_.u.token_stride, e, p_.dim, p_.pair_stores, u[0],
                 u[1]);
    }
  }

  static constexpr uint32_t kOnes = 0x3F803F80u;  // 1, 1

  const Parameters& p_;
  Shared<K>& shared_;
  int64_t b_, h_, first_;
  int group_, pair_;     // of the lane
  int warp_row_, part_;  // of the warp: its first row in the block, which columns of V
  int64_t keys_ = 0;     // that may be attended to, of the tiles so far
  FragmentA q_[K::kKeepQueries ? K::kSteps : 1];
  float largest_[2] = {-kInfinity, -kInfinity};
  float reference_[2] = {-kLargest, -kLargest};  // of a score times kappa
  FragmentC sum_[K::kDegree] = {};               // [r]: Σ p^(r + 1), in every column
  FragmentC moment_[K::kMoments][K::kColumnCs] = {};
  float value_sum_[2] = {};
};

}  // namespace stemfabric::attention::forward_bf16
