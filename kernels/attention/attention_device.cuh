// Device functions that the forward and the backward on CUDA share: the exponential, the
// polynomials, the keep bits of dropout, rows of a tile. Both passes must use the same ones: the
// backward recomputes the weights that the forward had.
#pragma once

#include <cmath>
#include <limits>

#include "kernels/attention/attention_math.h"
#include "kernels/attention/attention_views.h"
#include "kernels/common/block_reduce.cuh"
#include "kernels/common/launch.cuh"
#include "kernels/common/rounded.cuh"

namespace stemfabric::attention {

// Keys of a tile; tiles start at multiples of it, as the groups of the dropout's counters do.
inline constexpr int kTileKeys = 32;

inline constexpr float kInfinity = std::numeric_limits<float>::infinity();
inline constexpr float kLargest = std::numeric_limits<float>::max();

// The keys of tile `first` (a multiple of kTileKeys) that may be attended to, one bit each. Called
// by whole warps.
__device__ __forceinline__ unsigned open_keys(const KeyMask& mask, int64_t b, int64_t first,
                                              int64_t tokens) {
  const int64_t j = first + static_cast<int64_t>(threadIdx.x) % kWarpLanes;
  return __ballot_sync(kFullWarp, j < tokens && mask.open(b, j) ? 1 : 0);
}

// exp((q·k − m)/√D) for x = q·k − m, kappa = log2(e)/√D: 1 at x = 0, 0 at x = −∞, NaN at NaN. The
// difference x is exact for close numbers; rounding its product with kappa costs what one rounding
// of a score costs. CUDA's exp2f is good to 2 units in the last place.
inline float attention_kappa(int64_t dim) {
  return static_cast<float>(1.4426950408889634 / std::sqrt(static_cast<double>(dim)));
}
__device__ __forceinline__ float exp_scaled(float x, float kappa) {
  return exp2f(multiply(x, kappa));
}

// p(a) = Σ c[r] a^(r+1).
__device__ __forceinline__ float polynomial(const float* c, float a) {
  float p = c[kAttentionDegree - 1];
  SF_UNROLL
  for (int r = kAttentionDegree - 2; r >= 0; --r) {
    p = multiply_add(p, a, c[r]);
  }
  return multiply(p, a);
}
// p(a) and p'(a), by one Horner scheme.
__device__ __forceinline__ float polynomial(const float* c, float a, float& slope) {
  float p = c[kAttentionDegree - 1];
  slope = p;
  SF_UNROLL
  for (int r = kAttentionDegree - 2; r >= 0; --r) {
    p = multiply_add(p, a, c[r]);
    slope = multiply_add(slope, a, p);
  }
  return multiply(p, a);
}

// Dropout as docs/attention.md states it. One call of Philox serves eight weights of a query: of
// 32 keys from a multiple of 32 on, those with key mod 8 = 2 pair and 2 pair + 1.
struct Keep {
  PhiloxKey key{};
  uint32_t threshold = 0;  // keep if the 16-bit lane is >= threshold; 0 = no dropout
  int64_t sample0 = 0;
  const PhiloxKey* key_at = nullptr;  // if not null: where the key is
};
inline Keep keep_of(const DropoutConfig& config) {
  return {config.key, dropout_threshold(config.p), config.sample0, config.key_at};
}
// Bit 2 n + (0 or 1) is the weight of query i of head (b, h) and key first + 8 n + 2 pair + (0 or
// 1), for n < 4.
__device__ __forceinline__ unsigned keep_bits(const Keep& keep, int64_t b, int64_t h, int64_t i,
                                              int64_t first, int pair) {
  const PhiloxCounter random =
      philox4x32_10({{static_cast<uint32_t>(i),
                      4u * static_cast<uint32_t>(first / kTileKeys) + static_cast<uint32_t>(pair),
                      static_cast<uint32_t>(keep.sample0 + b), static_cast<uint32_t>(h)}},
                    keep.key_at != nullptr ? *keep.key_at : keep.key);
  unsigned bits = 0;
  SF_UNROLL
  for (int n = 0; n < 8; ++n) {
    bits |= (philox_lane16(random, n) >= keep.threshold ? 1u : 0u) << n;
  }
  return bits;
}

// Can the rows of a tensor be read and written four elements at a time?
template <typename T>
bool rows_are_vectors(const Rows<T>& rows, int64_t dim) {
  return reinterpret_cast<std::uintptr_t>(rows.data) % 16 == 0 && dim % 4 == 0 &&
         rows.batch_stride % 4 == 0 && rows.token_stride % 4 == 0 && rows.head_stride % 4 == 0;
}

}  // namespace stemfabric::attention
