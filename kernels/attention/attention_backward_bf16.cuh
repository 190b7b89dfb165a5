// The two large kernels of the attention backward for bf16, on the tensor cores (the kernel of the
// rows: attention_backward_rows.cuh).
//
//   keys     a block keeps 64 keys and sums dK and dV over all queries: S, dG, Rᵀ dO, dSᵀ Q
//   queries  a block keeps 64 queries and sums dQ over all keys: S, dG again, dS K
//
// A warp owns 16 of the block's rows: they are the rows of its products, and its sums stay in its
// registers. What streams past them, 32 rows at a time, is copied to shared memory while the tile
// before is worked on. R and dS are rounded to bf16 and become operands of the next product in the
// registers where they are: nothing of them passes through shared memory.
//
// Seven products where five would do with atomics: the same bits on every run, for any T. Per query
// and key: two exponentials, 7 D multiply-adds of the tensor cores, about 23 other operations in
// the first kernel and 14 in the second.
#pragma once

#include "kernels/attention/attention_backward_rows.cuh"
#include "kernels/attention/attention_bf16_device.cuh"

namespace stemfabric::attention::backward_bf16 {

using backward::BlockPlace;
using backward::key_word;
using backward::kThreads;
using backward::RowTerms;

inline constexpr int kColumns = 64;      // that a block keeps
inline constexpr int kRows = kTileKeys;  // of a tile that streams past them
inline constexpr int kSlabs = kRows / 16;
static_assert(kColumns == kThreads / kWarpLanes * 16);

template <int kDimT, bool kPolynomialT, bool kDropoutT>
struct Kind {
  static constexpr int kDim = kDimT;  // padded head dimension
  static constexpr bool kPolynomial = kPolynomialT;
  static constexpr bool kDropout = kDropoutT;
  static constexpr int kStride = kTileStride<kDim>;
  static constexpr int kSteps = kDim / 16;
  static constexpr int kColumnCs = kDim / 8;
  static constexpr bool kKeepOperands = kDim <= 64;  // of the block's rows, in registers
  static constexpr int kBlocks = kDim <= 32 ? 3 : 2;
  using Columns = Bf16[kColumns * kStride];
  using Tile = Bf16[kRows * kStride];
};

struct Parameters : backward::RowsParameters<Bf16> {
  attention::Rows<const Bf16> q, k, v;
  attention::Rows<Bf16> dq, dk, dv;
  float scale;          // 1/√D
  float kappa;          // log2(e)/√D
  float dropout_scale;  // 1 without dropout
  Keep keep;
  MomentCoefficients coefficients;
  float h_slope[kMomentDegree];  // h'(a) = Σ h_slope[r] a^r
  float x_slope[kMomentDegree];  // exp(a) = Σ x_slope[r] a^r
  bool vector_loads, pair_stores;
};

// What an element needs of its query, as RowTerms has it, but A = 2^(κ q·k − lse).
struct alignas(16) QueryTerms {
  float lse, w, inverse_g, d0, d1, w_d2, c0;
};
// Beyond the last query A = 0, and nothing comes from it.
__device__ __forceinline__ QueryTerms query_terms(const Parameters& p, int64_t head, int64_t i) {
  QueryTerms out{kInfinity, 0.0f, 1.0f, 0.0f, 0.0f, 0.0f, 0.0f};
  if (i < p.tokens) {
    const RowTerms row = p.terms[head * p.tokens + i];
    out = {multiply(row.m, p.kappa) - log2f(row.inverse_l),
           row.w,
           row.inverse_g,
           row.d0,
           row.d1,
           row.w_d2,
           row.c0};
  }
  return out;
}

struct WeightAndGradient {
  float weight, d_score;
};

// Score and dG -> R(A) (with dropout G) and dS:
//   dS = A (R'(a) g − w D2 exp(a) − D1) = A (h'(a) g + exp(a) (w g − w D2) − D1)
template <class K>
__device__ __forceinline__ WeightAndGradient element(const Parameters& p, const QueryTerms& row,
                                                     float score, float dg, bool kept) {
  const float a = exp2_fast(multiply_add(score, p.kappa, -row.lse));
  if (K::kDropout) {
    dg = kept ? dg * p.dropout_scale : 0.0f;
  }
  WeightAndGradient out;
  if constexpr (K::kPolynomial) {
    float h = p.coefficients.h[kMomentDegree - 1];
    float x = p.coefficients.x[kMomentDegree - 1];
    float h_slope = p.h_slope[kMomentDegree - 1];
    float x_slope = p.x_slope[kMomentDegree - 1];
    SF_UNROLL
    for (int r = kMomentDegree - 2; r >= 0; --r) {
      h = h * a + p.coefficients.h[r];
      x = x * a + p.coefficients.x[r];
      h_slope = h_slope * a + p.h_slope[r];
      x_slope = x_slope * a + p.x_slope[r];
    }
    const float g = (dg - row.d0) * row.inverse_g;
    out.weight = a * (h + row.w * x) * row.inverse_g;
    out.d_score = a * (h_slope * g + x_slope * (row.w * g - row.w_d2) - row.d1);
  } else {
    out.weight = a;
    out.d_score = a * (dg - row.d1);
  }
  if (K::kDropout) {
    out.weight = kept ? out.weight + row.c0 : 0.0f;  // the constant part is dropped with the rest
  }
  return out;
}

// Where a lane is: group and pair as in mma.cuh, and the first of its warp's rows in the block.
struct LanePlace {
  int group, pair, warp_row;
};
__device__ __forceinline__ LanePlace lane_place() {
  const int thread = static_cast<int>(threadIdx.x);
  return {thread % kWarpLanes / 4, thread % 4, thread / kWarpLanes * 16};
}

// The 16 rows of a warp as operands, from registers or, if these would not suffice, from shared
// memory.
template <class K>
class WarpRows {
 public:
  __device__ __forceinline__ explicit WarpRows(const Bf16* rows) : rows_(rows) {}
  __device__ __forceinline__ void load() {
    if constexpr (K::kKeepOperands) {
      SF_UNROLL
      for (int step = 0; step < K::kSteps; ++step) {
        kept_[step] = load_a(rows_ + step * 16, K::kStride);
      }
    }
  }
  __device__ __forceinline__ FragmentA operator[](int step) const {
    if constexpr (K::kKeepOperands) {
      return kept_[step];
    } else {
      return load_a(rows_ + step * 16, K::kStride);
    }
  }

 private:
  const Bf16* rows_;
  FragmentA kept_[K::kKeepOperands ? K::kSteps : 1];
};

// Products of the warp's rows with 16 rows of a tile, summed over the head dimension.
template <class K>
__device__ __forceinline__ void form_scores(const WarpRows<K>& rows, const Bf16* tile,
                                            FragmentC (&out)[2]) {
  out[0] = out[1] = {};
  SF_UNROLL
  for (int step = 0; step < K::kSteps; ++step) {
    const FragmentA a = rows[step];
    const TwoB b = load_b_of_rows(tile + step * 16, K::kStride);
    mma(out[0], a, b.b[0]);
    mma(out[1], a, b.b[1]);
  }
}
// sums += weights · 16 rows of a tile.
template <class K>
__device__ __forceinline__ void add_products(const FragmentC (&weights)[2], const Bf16* tile,
                                             FragmentC (&sums)[K::kColumnCs]) {
  const FragmentA a = pack_a(weights[0], weights[1]);
  SF_UNROLL
  for (int n = 0; n < K::kColumnCs; n += 2) {
    const TwoB b = load_b_of_columns(tile + 8 * n, K::kStride);
    mma(sums[n], a, b.b[0]);
    mma(sums[n + 1], a, b.b[1]);
  }
}

// Rows from `first` on, those whose bit of `open` is set.
template <class K, int kElements>
__device__ __forceinline__ void copy_open(const Parameters& p, const BlockPlace& block,
                                          const attention::Rows<const Bf16>& from, int64_t first,
                                          uint64_t open, Bf16 (&to)[kElements]) {
  copy_rows<kThreads, kElements / K::kStride, K::kDim>(
      from.head(block.b, block.h), from.token_stride, first, p.dim, p.vector_loads, to,
      [&](int row) { return (open >> row & 1u) != 0; });
}

// ---------------------------------------------------------------- keys

template <class K>
struct alignas(16) KeysShared {
  typename K::Columns k, v;
  typename K::Tile q[2], d_o[2];
  QueryTerms terms[2][kRows];
  uint32_t keep[2][kRows * kColumns / 32];
  float common[K::kDim];
};

template <class K>
class KeysBlock {
 public:
  __device__ __forceinline__ explicit KeysBlock(const Parameters& p)
      : p_(p),
        shared_(*reinterpret_cast<KeysShared<K>*>(dynamic_shared())),
        block_(BlockPlace::of<kColumns>(p)),
        at_(lane_place()),
        k_(shared_.k + at_.warp_row * K::kStride),
        v_(shared_.v + at_.warp_row * K::kStride) {
    const int64_t word = block_.first / 32;
    open_ = key_word(p, block_.b, word) | uint64_t{key_word(p, block_.b, word + 1)} << 32;
  }

  __device__ __forceinline__ void run() {
    if (open_ != 0) {
      // A masked key is zeros here: what its row becomes is finite or not, but never written.
      copy_open<K>(p_, block_, p_.k, block_.first, open_, shared_.k);
      copy_open<K>(p_, block_, p_.v, block_.first, open_, shared_.v);
      copy_tile(0, 0);
      sum_common();
      wait_for_copies();
      __syncthreads();
      k_.load();
      v_.load();
      int buffer = 0;
      for (int64_t query = 0; query < p_.tokens; query += kRows, buffer ^= 1) {
        copy_tile(query + kRows, buffer ^ 1);
        add_tile(buffer);
        wait_for_copies();
        __syncthreads();  // the next tile is there, and this one's place is free
      }
    }
    write(0);
    write(1);
  }

 private:
  __device__ __forceinline__ void copy_tile(int64_t query, int buffer) {
    if (query >= p_.tokens) {
      return;
    }
    const auto present = static_cast<uint32_t>(backward::bits_before(p_.tokens, query, kRows));
    copy_open<K>(p_, block_, p_.q, query, present, shared_.q[buffer]);
    copy_open<K>(p_, block_, p_.d_o, query, present, shared_.d_o[buffer]);
    if (threadIdx.x < kRows) {
      shared_.terms[buffer][threadIdx.x] = query_terms(p_, block_.head, query + threadIdx.x);
    }
    if constexpr (K::kDropout) {
      backward::fill_keep_words<kRows * kColumns / 32, kColumns / 32>(
          p_.keep, block_.b, block_.h, query, block_.first / kTileKeys, shared_.keep[buffer]);
    }
  }

  __device__ __forceinline__ void add_tile(int buffer) {
    if constexpr (K::kKeepOperands) {
      SF_UNROLL
      for (int slab = 0; slab < kSlabs; ++slab) {
        add_slab(buffer, slab);
      }
    } else {
      SF_NO_UNROLL
      for (int slab = 0; slab < kSlabs; ++slab) {
        add_slab(buffer, slab);
      }
    }
  }

  __device__ __forceinline__ void add_slab(int buffer, int slab) {
    const Bf16* q = shared_.q[buffer] + slab * 16 * K::kStride;
    const Bf16* d_o = shared_.d_o[buffer] + slab * 16 * K::kStride;
    FragmentC weights[2], d_scores[2];
    form_scores(k_, q, weights);
    form_scores(v_, d_o, d_scores);
    SF_UNROLL
    for (int n = 0; n < 2; ++n) {
      SF_UNROLL
      for (int c = 0; c < 2; ++c) {
        const int query = 16 * slab + 8 * n + 2 * at_.pair + c;
        const QueryTerms terms = shared_.terms[buffer][query];
        SF_UNROLL
        for (int i = c; i < 4; i += 2) {
          const WeightAndGradient x =
              element<K>(p_, terms, weights[n].value[i], d_scores[n].value[i],
                         kept(buffer, query, at_.warp_row + at_.group + i / 2 * 8));
          weights[n].value[i] = x.weight;
          d_scores[n].value[i] = x.d_score;
        }
      }
    }
    add_products<K>(weights, d_o, dv_);
    add_products<K>(d_scores, q, dk_);
  }

  __device__ __forceinline__ bool kept(int buffer, int query, int key) const {
    if constexpr (K::kDropout) {
      return (shared_.keep[buffer][query * (kColumns / 32) + key / 32] >> (key % 32) & 1u) != 0;
    } else {
      return true;
    }
  }

  // Σ c0 dO over all queries of the head.
  __device__ __forceinline__ void sum_common() {
    const int thread = static_cast<int>(threadIdx.x);
    if (thread < K::kDim) {
      float sum = 0.0f;
      for (int64_t n = 0; n < p_.chunks && p_.common != nullptr; ++n) {
        sum += p_.common[(block_.head * p_.chunks + n) * K::kDim + thread];
      }
      shared_.common[thread] = sum;
    }
  }

  // This lane's row i.
  __device__ __forceinline__ void write(int i) const {
    const int row = at_.warp_row + at_.group + 8 * i;
    const int64_t key = block_.first + row;
    if (key >= p_.tokens) {
      return;
    }
    const bool open = (open_ >> row & 1u) != 0;
    Bf16* dk = p_.dk.head(block_.b, block_.h) + key * p_.dk.token_stride;
    Bf16* dv = p_.dv.head(block_.b, block_.h) + key * p_.dv.token_stride;
    SF_UNROLL
    for (int n = 0; n < K::kColumnCs; ++n) {
      const int e = 8 * n + 2 * at_.pair;
      float k[2] = {}, v[2] = {};
      SF_UNROLL
      for (int c = 0; c < 2 && open; ++c) {
        k[c] = p_.scale * dk_[n].value[2 * i + c];
        v[c] = shared_.common[e + c] + p_.dropout_scale * dv_[n].value[2 * i + c];
      }
      store_pair(dk, e, p_.dim, p_.pair_stores, k[0], k[1]);
      store_pair(dv, e, p_.dim, p_.pair_stores, v[0], v[1]);
    }
  }

  const Parameters& p_;
  KeysShared<K>& shared_;
  BlockPlace block_;
  LanePlace at_;
  uint64_t open_;
  WarpRows<K> k_, v_;
  FragmentC dk_[K::kColumnCs] = {}, dv_[K::kColumnCs] = {};
};

// ---------------------------------------------------------------- queries

template <class K>
struct alignas(16) QueriesShared {
  typename K::Columns q, d_o;
  typename K::Tile k[2], v[2];
};

template <class K>
class QueriesBlock {
 public:
  __device__ __forceinline__ explicit QueriesBlock(const Parameters& p)
      : p_(p),
        shared_(*reinterpret_cast<QueriesShared<K>*>(dynamic_shared())),
        block_(BlockPlace::of<kColumns>(p)),
        at_(lane_place()),
        q_(shared_.q + at_.warp_row * K::kStride),
        d_o_(shared_.d_o + at_.warp_row * K::kStride) {}

  __device__ __forceinline__ void run() {
    const uint64_t present = backward::bits_before(p_.tokens, block_.first, kColumns);
    copy_open<K>(p_, block_, p_.q, block_.first, present, shared_.q);
    copy_open<K>(p_, block_, p_.d_o, block_.first, present, shared_.d_o);
    Tile tile = next_tile(0);
    copy_tile(tile, 0);
    terms_[0] = query_terms(p_, block_.head, query(0));
    terms_[1] = query_terms(p_, block_.head, query(1));
    wait_for_copies();
    __syncthreads();
    q_.load();
    d_o_.load();
    for (int buffer = 0; tile.open != 0; buffer ^= 1) {
      const Tile next = next_tile(tile.first + kRows);
      copy_tile(next, buffer ^ 1);
      add_tile(tile, buffer);
      wait_for_copies();
      __syncthreads();  // the next tile is there, and this one's place is free
      tile = next;
    }
    write(0);
    write(1);
  }

 private:
  struct Tile {
    int64_t first;
    uint32_t open;  // keys that may be attended to; 0: there is no such tile
  };

  __device__ __forceinline__ Tile next_tile(int64_t first) const {
    uint32_t open = 0;
    while (first < p_.tokens && (open = key_word(p_, block_.b, first / kRows)) == 0) {
      first += kRows;
    }
    return {first, open};
  }

  __device__ __forceinline__ void copy_tile(const Tile& tile, int buffer) {
    if (tile.open != 0) {
      copy_open<K>(p_, block_, p_.k, tile.first, tile.open, shared_.k[buffer]);
      copy_open<K>(p_, block_, p_.v, tile.first, tile.open, shared_.v[buffer]);
    }
  }

  __device__ __forceinline__ void add_tile(const Tile& tile, int buffer) {
    unsigned kept[2] = {~0u, ~0u};
    if constexpr (K::kDropout) {
      SF_UNROLL
      for (int i = 0; i < 2; ++i) {
        kept[i] = keep_bits(p_.keep, block_.b, block_.h, query(i), tile.first, at_.pair);
      }
    }
    SF_UNROLL
    for (int slab = 0; slab < kSlabs; ++slab) {
      const Bf16* k = shared_.k[buffer] + slab * 16 * K::kStride;
      const Bf16* v = shared_.v[buffer] + slab * 16 * K::kStride;
      FragmentC scores[2], d_scores[2];
      form_scores(q_, k, scores);
      form_scores(d_o_, v, d_scores);
      SF_UNROLL
      for (int n = 0; n < 2; ++n) {
        SF_UNROLL
        for (int i = 0; i < 4; ++i) {
          const int eight = 2 * slab + n;
          const bool keep = (kept[i / 2] >> (2 * eight + i % 2) & 1u) != 0;
          const float d_score =
              element<K>(p_, terms_[i / 2], scores[n].value[i], d_scores[n].value[i], keep).d_score;
          // What a masked key's zeros gave may be infinite: 2^(0 − lse).
          const bool open = (tile.open >> (8 * eight + 2 * at_.pair + i % 2) & 1u) != 0;
          d_scores[n].value[i] = open ? d_score : 0.0f;
        }
      }
      add_products<K>(d_scores, k, dq_);
    }
  }

  __device__ __forceinline__ int64_t query(int i) const {
    return block_.first + at_.warp_row + at_.group + 8 * i;
  }

  // This lane's row i.
  __device__ __forceinline__ void write(int i) const {
    if (query(i) >= p_.tokens) {
      return;
    }
    Bf16* dq = p_.dq.head(block_.b, block_.h) + query(i) * p_.dq.token_stride;
    SF_UNROLL
    for (int n = 0; n < K::kColumnCs; ++n) {
      store_pair(dq, 8 * n + 2 * at_.pair, p_.dim, p_.pair_stores, p_.scale * dq_[n].value[2 * i],
                 p_.scale * dq_[n].value[2 * i + 1]);
    }
  }

  const Parameters& p_;
  QueriesShared<K>& shared_;
  BlockPlace block_;
  LanePlace at_;
  WarpRows<K> q_, d_o_;
  QueryTerms terms_[2];
  FragmentC dq_[K::kColumnCs] = {};
};

}  // namespace stemfabric::attention::backward_bf16
