// Masks and elements of their loss on one bin: the formulas of stem_mask.h.
#pragma once

#include "kernels/common/launch.cuh"
#include "kernels/common/vector.cuh"
#include "kernels/stem_mask/mask_layout.h"

namespace stemfabric {

struct Complex {
  float re, im;
};

// kWidth = 2: the two parts lie on an 8-byte boundary.
template <int kWidth>
__device__ __forceinline__ Complex load_complex(const float* from) {
  if constexpr (kWidth == 2) {
    const auto z = load_vector<2>(from);
    return {z.lane[0], z.lane[1]};
  } else {
    return {from[0], from[1]};
  }
}
template <int kWidth>
__device__ __forceinline__ void store_complex(float* to, const Complex& z) {
  if constexpr (kWidth == 2) {
    store_vector<2>(to, {{z.re, z.im}});
  } else {
    to[0] = z.re;
    to[1] = z.im;
  }
}

// A band's value from its output, and the derivative. NaN stays NaN.
struct MaskActivation {
  float value, slope;
};
template <int kParts>
__device__ __forceinline__ MaskActivation mask_activation(float x) {
  if constexpr (kParts == 2) {
    return {x, 1.0f};
  } else {
    const float tau = expf(-fabsf(x));
    const float large = 1 / (1 + tau);
    const float small = tau * large;  // sigmoid(−|x|)
    return {x < 0 ? small : large, small * large};
  }
}

// mask · x
template <int kParts>
__device__ __forceinline__ Complex masked(const Complex& mask, const Complex& x) {
  if constexpr (kParts == 2) {
    return {mask.re * x.re - mask.im * x.im, mask.re * x.im + mask.im * x.re};
  } else {
    return {mask.re * x.re, mask.re * x.im};
  }
}

// x^h as positive_power of mask_rows-inl.h, where the numbers are explained.
__device__ __forceinline__ float positive_power(float x, const MaskExponent& exponent) {
  const unsigned bits = __float_as_uint(x);
  const int e = static_cast<int>(bits - 0x3F3504F3u) >> 23;
  const float f = __uint_as_float(bits - (static_cast<unsigned>(e) << 23));
  const float z = (f - 1) / (f + 1);
  const float z2 = z * z;
  float p = 2.88539008f / 9;
  p = fmaf(p, z2, 2.88539008f / 7);
  p = fmaf(p, z2, 2.88539008f / 5);
  p = fmaf(p, z2, 2.88539008f / 3);
  p = fmaf(p, z2, 2.88539008f);
  const float log_f = p * z;
  const auto whole_e = static_cast<float>(e);
  const float h = exponent.head + exponent.tail;
  const float n = rintf(h * (whole_e + log_f));
  float r = fmaf(exponent.head, whole_e, -n);
  r = fmaf(exponent.tail, whole_e, r);
  r = fmaf(h, log_f, r);
  float q = 1.52527338e-5f;
  q = fmaf(q, r, 1.54035304e-4f);
  q = fmaf(q, r, 1.33335581e-3f);
  q = fmaf(q, r, 9.61812911e-3f);
  q = fmaf(q, r, 5.55041087e-2f);
  q = fmaf(q, r, 2.40226507e-1f);
  q = fmaf(q, r, 6.93147181e-1f);
  q = fmaf(q, r, 1.0f);
  const float power = __int_as_float((static_cast<int>(n) + 127) << 23) * q;
  return x < __int_as_float(0x7F800000) ? power : x;
}

// |z|ε^p from |z|ε².
template <MaskCompression kCompression>
__device__ __forceinline__ float compress(float squared, const MaskLossRule& rule) {
  if constexpr (kCompression == MaskCompression::kLinear) {
    return sqrtf(squared);
  } else if constexpr (kCompression == MaskCompression::kRoot) {
    return sqrtf(sqrtf(squared));
  } else {
    return positive_power(squared, rule.half_power);
  }
}

struct MaskElement {
  float loss;
  Complex gradient;  // with respect to the estimate
};
template <MaskCompression kCompression>
__device__ __forceinline__ MaskElement mask_element(const Complex& estimate, const Complex& target,
                                                    const MaskLossRule& rule) {
  const Complex delta = {estimate.re - target.re, estimate.im - target.im};
  const Complex weighted = {rule.complex_weight * delta.re, rule.complex_weight * delta.im};
  MaskElement e = {weighted.re * delta.re + weighted.im * delta.im,
                   {2 * weighted.re, 2 * weighted.im}};
  if constexpr (kCompression != MaskCompression::kNone) {
    const auto squared = [&](const Complex& z) {
      return z.re * z.re + (z.im * z.im + rule.epsilon2);
    };
    const float estimate2 = squared(estimate);
    const float compressed = compress<kCompression>(estimate2, rule);
    const float difference = compressed - compress<kCompression>(squared(target), rule);
    const float magnitude = rule.magnitude_weight * difference;
    e.loss += magnitude * difference;
    // ∂|z|ε^p/∂z = p · |z|ε^p / |z|ε² · z
    const float factor = magnitude * (2 * rule.power * compressed / estimate2);
    e.gradient.re += factor * estimate.re;
    e.gradient.im += factor * estimate.im;
  }
  return e;
}

// The gradient with respect to the mask from that with respect to mask · x: times conj(x).
__device__ __forceinline__ Complex mask_gradient(const Complex& gradient, const Complex& x) {
  return {gradient.re * x.re + gradient.im * x.im, gradient.im * x.re - gradient.re * x.im};
}

}  // namespace stemfabric
