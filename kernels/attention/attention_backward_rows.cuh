// What the kernels of the attention backward share, and the first of them: the terms of every row
// of queries, and the mask as bits.
#pragma once

#include "kernels/attention/attention_backward_tile.cuh"

namespace stemfabric::attention::backward {

// What an element needs of its row of queries.
struct alignas(16) RowTerms {
  float m, inverse_l;
  float w, inverse_g;
  float d0;    // dO · O if normalized, else 0
  float d1;    // dO · U
  float w_d2;  // w dO · O2
  float c0;    // (b + w) / g
};

// What the kernel of the rows takes, and the others too. T: float or Bf16.
template <typename T>
struct RowsParameters {
  int64_t tokens, heads;
  int64_t chunks;  // of 64 tokens
  int dim;
  QuadRows<const T> o, o2, d_o;
  QuadRows<const float> u;
  StatRows<const float> stats;
  KeyMask mask;
  float b;  // of the coefficients
  bool polynomial, normalized;
  // In scratch memory:
  RowTerms* terms;      // [B, H, T]
  uint32_t* key_words;  // [B, 2 · chunks], bit j of word w: key 32 w + j may be attended to
  float* common;        // [B, H, chunks, padded D]: Σ c0 dO of the chunk; nullptr if not needed
};

struct BackwardParameters : RowsParameters<float> {
  QuadRows<const float> q, k, v;
  QuadRows<float> dq, dk, dv;
  float scale;          // 1/√D
  float kappa;          // see exp_scaled
  float dropout_scale;  // 1 without dropout
  Keep keep;
  AttentionCoefficients coefficients;
  float h_slope[kAttentionDegree];  // h'(a) = Σ h_slope[r] a^r
  float x_slope[kAttentionDegree];  // exp(a) = Σ x_slope[r] a^r
};

inline constexpr int kChunk = 64;

// The head and the columns of a block.
struct BlockPlace {
  int64_t b, h, head;
  int64_t first;  // column

  template <int kColumns, typename T>
  static __device__ __forceinline__ BlockPlace of(const RowsParameters<T>& p) {
    const int64_t tiles = (p.tokens + kColumns - 1) / kColumns;
    const int64_t head = blockIdx.x / tiles;
    return {head / p.heads, head % p.heads, head, blockIdx.x % tiles * kColumns};
  }
};

template <typename T>
__device__ __forceinline__ uint32_t key_word(const RowsParameters<T>& p, int64_t b, int64_t word) {
  return p.key_words[b * p.chunks * 2 + word];
}

template <int kDim>
struct RowsShared {
  float4 common[kThreads];
};

// The statistics of row i and its three dot products; one lane of a row's lanes writes them.
template <int kDim, typename T>
__device__ __forceinline__ float4 row_terms(const RowsParameters<T>& p, int64_t b, int64_t h,
                                            int64_t i, int lane) {
  const int e = lane * 4;
  const bool present = i < p.tokens;
  const float4 zero = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  const auto load = [&](const auto& x) {
    return present ? load_quad(x.row(b, h, i), e, p.dim, x.quads) : zero;
  };
  const bool polynomial = p.polynomial;
  const bool normalized = p.normalized;
  const float4 d_o = load(p.d_o);
  const float4 u = load(p.u);
  const float4 o2 = polynomial ? load(p.o2) : zero;
  const float4 o = normalized ? load(p.o) : zero;
  float d0 = 0.0f, d1 = 0.0f, d2 = 0.0f;
  add_product(d1, d_o, u);
  add_product(d2, d_o, o2);
  add_product(d0, d_o, o);
  d1 = warp_sum<kDim / 4>(d1);
  if (polynomial) {
    d2 = warp_sum<kDim / 4>(d2);
  }
  if (normalized) {
    d0 = warp_sum<kDim / 4>(d0);
  }
  if (!present) {
    return zero;
  }
  const float* stats = p.stats.row(b, h, i);
  const float w = stats[2];
  const float inverse_g = 1.0f / stats[3];
  const float c0 = (p.b + w) * inverse_g;
  if (lane == 0) {
    p.terms[(b * p.heads + h) * p.tokens + i] = {.m = stats[0],
                                                 .inverse_l = 1.0f / stats[1],
                                                 .w = w,
                                                 .inverse_g = inverse_g,
                                                 .d0 = d0,
                                                 .d1 = d1,
                                                 .w_d2 = w * d2,
                                                 .c0 = c0};
  }
  return make_float4(c0 * d_o.x, c0 * d_o.y, c0 * d_o.z, c0 * d_o.w);
}

// One block per head and 64 tokens; kDim / 4 lanes per row.
template <int kDim, typename T>
__global__ void __launch_bounds__(kThreads)
    attention_backward_rows_kernel(const RowsParameters<T> p) {
  constexpr int kLanes = kDim / 4;
  constexpr int kGroups = kThreads / kLanes;
  auto& shared = shared_storage<RowsShared<kDim>>();
  const int64_t head = blockIdx.x / p.chunks;
  const int64_t chunk = blockIdx.x % p.chunks;
  const int64_t b = head / p.heads;
  const int64_t h = head % p.heads;
  const int64_t first = chunk * kChunk;
  const int thread = static_cast<int>(threadIdx.x);
  if (h == 0 && thread < kChunk) {
    const int n = thread / kTileKeys;
    const unsigned word = open_keys(p.mask, b, first + n * kTileKeys, p.tokens);
    if (thread % kTileKeys == 0) {
      p.key_words[(b * p.chunks + chunk) * 2 + n] = word;
    }
  }
  float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  for (int row = thread / kLanes; row < kChunk; row += kGroups) {
    add_scaled(sum, 1.0f, row_terms<kDim>(p, b, h, first + row, thread % kLanes));
  }
  if (p.common == nullptr) {
    return;
  }
  shared.common[thread] = sum;
  __syncthreads();
  if (thread < kLanes) {
    for (int group = 1; group < kGroups; ++group) {
      add_scaled(sum, 1.0f, shared.common[group * kLanes + thread]);
    }
    *reinterpret_cast<float4*>(p.common + (head * p.chunks + chunk) * kDim + thread * 4) = sum;
  }
}

}  // namespace stemfabric::attention::backward
