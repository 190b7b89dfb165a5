// Row by row: from the scores to all that the second sweep and the results need of a row.
#pragma once

#include "kernels/attention/attention_device.cuh"

namespace stemfabric::attention::forward {

// Eight lanes share a row; of a tile's keys a lane has column + 8 j.
inline constexpr int kColumns = 8;
inline constexpr int kLaneKeys = kTileKeys / kColumns;

// What sweep 2 needs of a row: its weights from its scores.
struct alignas(16) RowTerms {
  float m, inverse_l, c0, c[kAttentionDegree];
};
// What is left for the end.
struct alignas(16) RowSums {
  float l, w, g, z2, t, omega;
};

// Running sums of one row over the keys of one lane, relative to a score `reference` that is at
// most a factor 2^8 of the weight behind the largest: powers stay below 2^72 times the keys, and
// the sums are rescaled a few times in all.
template <int kPowers>
struct PowerSums {
  static constexpr float kSlack = 8.0f;
  float largest = -kInfinity;
  float reference = -kLargest;  // so that −∞ minus it is −∞
  float s[kPowers] = {};

  __device__ __forceinline__ void rescale(float to, float kappa) {
    const float factor = exp_scaled(reference - to, kappa);
    float power = factor;
    SF_UNROLL
    for (int r = 0; r < kPowers; ++r) {
      s[r] = multiply(s[r], power);
      power = multiply(power, factor);
    }
    reference = to;
  }

  __device__ __forceinline__ void add(const float (&scores)[kLaneKeys], float kappa) {
    float top = scores[0];
    SF_UNROLL
    for (int j = 1; j < kLaneKeys; ++j) {
      top = fmaxf(top, scores[j]);
    }
    largest = fmaxf(largest, top);
    if ((top - reference) * kappa > kSlack) {
      rescale(top, kappa);
    }
    SF_UNROLL
    for (int j = 0; j < kLaneKeys; ++j) {
      add_powers(exp_scaled(scores[j] - reference, kappa));
    }
  }

  __device__ __forceinline__ void add_powers(float e) {
    s[0] += e;
    if constexpr (kPowers == kAttentionDegree) {
      const float e2 = multiply(e, e);
      const float e3 = multiply(e2, e);
      const float e4 = multiply(e2, e2);
      const float e5 = multiply(e4, e);
      s[1] += e2;
      s[2] += e3;
      s[3] += e4;
      s[4] += e5;
      s[5] = multiply_add(e3, e3, s[5]);
      s[6] = multiply_add(e4, e3, s[6]);
      s[7] = multiply_add(e4, e4, s[7]);
      s[8] = multiply_add(e5, e4, s[8]);
      static_assert(kAttentionDegree == 9);
    }
  }

  // The sums over all lanes of the row, relative to its largest score.
  __device__ __forceinline__ void reduce(float kappa) {
    largest = warp_max<kColumns>(largest);
    rescale(largest, kappa);
    SF_UNROLL
    for (int r = 0; r < kPowers; ++r) {
      s[r] = warp_sum<kColumns>(s[r]);
    }
  }
};

// From a row's sums over all keys, of which there are so many.
template <int kPowers>
__device__ __forceinline__ void finish_row(const AttentionCoefficients& c,
                                           const PowerSums<kPowers>& sums, float keys,
                                           RowTerms& terms, RowSums& out) {
  const float inverse = 1.0f / sums.s[0];
  terms.m = sums.largest;
  terms.inverse_l = inverse;
  out.l = sums.s[0];
  if constexpr (kPowers == kAttentionDegree) {
    float mean[kAttentionDegree];  // Σ A^(r + 1)
    float power = inverse;
    mean[0] = 1.0f;
    SF_UNROLL
    for (int r = 1; r < kAttentionDegree; ++r) {
      power = multiply(power, inverse);
      mean[r] = multiply(sums.s[r], power);
    }
    float z = 0.0f, t = 0.0f, omega = 0.0f;
    SF_UNROLL
    for (int r = kAttentionDegree - 1; r >= 0; --r) {
      const auto degree = static_cast<float>(r + 1);
      z = multiply_add(c.x[r], mean[r], z);
      t = multiply_add(degree * c.x[r], mean[r], t);
      omega = multiply_add(degree * c.h[r], mean[r], omega);
    }
    out.z2 = keys + z;
    out.w = c.gamma / out.z2;
    out.t = t;
    out.omega = omega;
    terms.c0 = c.b + out.w;
    // The row sum of the weights as they will be formed, rounded w and all.
    float weights = 0.0f;
    SF_UNROLL
    for (int r = kAttentionDegree - 1; r >= 0; --r) {
      terms.c[r] = multiply_add(out.w, c.x[r], c.h[r]);
      weights = multiply_add(terms.c[r], mean[r], weights);
    }
    out.g = c.normalized ? multiply_add(keys, terms.c0, weights) : 1.0f;
  } else {
    out.w = 0.0f;
    out.g = 1.0f;
  }
}

}  // namespace stemfabric::attention::forward
