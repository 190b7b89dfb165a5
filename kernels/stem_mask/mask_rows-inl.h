// One frame of one stem on SIMD vectors: outputs → bands → mask → elements of the loss → gradient
// of the mask → gradient of the outputs. Included once for each SIMD target (Highway).
#if defined(STEMFABRIC_MASK_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef STEMFABRIC_MASK_ROWS_INL_H_
#undef STEMFABRIC_MASK_ROWS_INL_H_
#else
#define STEMFABRIC_MASK_ROWS_INL_H_
#endif

#include <algorithm>

#include "kernels/activation/activation-inl.h"
#include "kernels/common/simd-inl.h"
#include "kernels/stem_mask/mask_rows.h"

HWY_BEFORE_NAMESPACE();
namespace stemfabric::HWY_NAMESPACE {

// ---------------------------------------------------------------- bands

// activation[i] = sigmoid(x[i]), slope[i] = its derivative there. NaN stays NaN.
HWY_INLINE void sigmoid_row(const float* x, int64_t n, float* activation, float* slope) {
  for_lanes(n, [&](auto d, int64_t i) HWY_ATTR {
    const auto v = hn::LoadU(d, x + i);
    const auto one = hn::Set(d, 1.0f);
    const auto tau = exp_neg(d, hn::Abs(v)).tau;
    const auto inverse = hn::Div(one, hn::Add(one, tau));
    const auto small = hn::Mul(tau, inverse);  // sigmoid(−|x|)
    const auto sigmoid = hn::IfThenElse(hn::Lt(v, hn::Zero(d)), small, inverse);
    const auto is_number = hn::Eq(v, v);
    hn::StoreU(hn::IfThenElse(is_number, sigmoid, v), d, activation + i);
    hn::StoreU(hn::IfThenElse(is_number, hn::Mul(small, inverse), v), d, slope + i);
  });
}

// (1 − fraction) · left + fraction · right
template <class V>
HWY_INLINE V between(V left, V right, V fraction) {
  return hn::MulAdd(fraction, right, hn::NegMulAdd(fraction, left, left));
}

// mask[k] = (1 − fraction) · a[band] + fraction · a[band + 1]
HWY_INLINE void expand_plane(const cpu::MaskTable& table, const float* a, float* mask) {
  const FloatTag full;
  const auto lanes = static_cast<int64_t>(hn::Lanes(full));
  // The bins of the high bands fill vectors: there the two values are the same for a whole vector.
  int64_t wide = table.bands - 1;
  while (wide > 0 && table.first_bin[wide] - table.first_bin[wide - 1] >= lanes) {
    --wide;
  }
  for_lanes(table.first_bin[wide], [&](auto d, int64_t k) HWY_ATTR {
    const hn::RebindToSigned<decltype(d)> di;
    const auto band = hn::LoadU(di, table.band + k);
    const auto left = hn::GatherIndex(d, a, band);
    const auto right = hn::GatherIndex(d, a + 1, band);
    hn::StoreU(between(left, right, hn::LoadU(d, table.fraction + k)), d, mask + k);
  });
  for (int64_t j = wide; j + 1 < table.bands; ++j) {
    const auto left = hn::Set(full, a[j]);
    const auto right = hn::Set(full, a[j + 1]);
    const int64_t last = table.first_bin[j + 1] - lanes;  // the last vector may overlap another
    for (int64_t k = table.first_bin[j]; k < last + lanes; k += lanes) {
      const int64_t at = std::min(k, last);
      hn::StoreU(between(left, right, hn::LoadU(full, table.fraction + at)), full, mask + at);
    }
  }
}

// The transpose of expand_plane: gradient[j] = scale · slope[j] · Σ_k ∂mask[k]/∂a[j] · dmask[k], in
// the order of the bins. slope may be null: 1.
HWY_INLINE void gather_plane(const cpu::MaskTable& table, const float* dmask, const float* slope,
                             float scale, float* gradient) {
  const FloatTag full;
  const auto lanes = static_cast<int64_t>(hn::Lanes(full));
  float from_left = 0;  // what the bins before centre j give to band j
  for (int64_t j = 0; j < table.bands; ++j) {
    const int64_t first = table.first_bin[j];
    const int64_t n = (j + 1 < table.bands ? table.first_bin[j + 1] : table.bins) - first;
    const float* fraction = table.fraction + first;
    const float* d_mask = dmask + first;
    TwoSums sums = {0, 0};  // for band j, for band j + 1
    if (n < lanes) {
      for (int64_t i = 0; i < n; ++i) {
        sums.first += (1 - fraction[i]) * d_mask[i];
        sums.second += fraction[i] * d_mask[i];
      }
    } else {
      sums = two_sums(n, [&](auto d, int64_t i, auto& left, auto& right) HWY_ATTR {
        const auto f = hn::LoadU(d, fraction + i);
        const auto v = hn::LoadU(d, d_mask + i);
        left = hn::MulAdd(hn::Sub(hn::Set(d, 1.0f), f), v, left);
        right = hn::MulAdd(f, v, right);
      });
    }
    gradient[j] = scale * (slope == nullptr ? 1.0f : slope[j]) * (from_left + sums.first);
    from_left = sums.second;
  }
}

// ---------------------------------------------------------------- bins

// x^h for x >= 2^−126 and 0 < h <= 1. With x = 2^e · f, f ∈ [√½, √2): x^h = 2^(h·e + h·log2 f). The
// whole part of the exponent is split off without a rounding, for h = head + tail and head · e is
// exact; so the result is precise for large |e|. Infinity and NaN stay.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V positive_power(D d, V x, const MaskExponent& exponent) {
  const hn::RebindToSigned<D> di;
  const auto bits = hn::BitCast(di, x);
  const auto half_root = hn::Set(di, 0x3F3504F3);  // √½
  const auto e = hn::ShiftRight<23>(hn::Sub(bits, half_root));
  const V f = hn::BitCast(d, hn::Sub(bits, hn::ShiftLeft<23>(e)));
  // log2 f = 2/ln 2 · atanh z, z = (f − 1)/(f + 1), |z| < 0.1716: off by less than 4e-9 of itself
  const V one = hn::Set(d, 1.0f);
  const V z = hn::Div(hn::Sub(f, one), hn::Add(f, one));
  const V z2 = hn::Mul(z, z);
  V p = hn::Set(d, 2.88539008f / 9);
  p = hn::MulAdd(p, z2, hn::Set(d, 2.88539008f / 7));
  p = hn::MulAdd(p, z2, hn::Set(d, 2.88539008f / 5));
  p = hn::MulAdd(p, z2, hn::Set(d, 2.88539008f / 3));
  p = hn::MulAdd(p, z2, hn::Set(d, 2.88539008f));
  const V log_f = hn::Mul(p, z);
  const V whole_e = hn::ConvertTo(d, e);
  const V h = hn::Set(d, exponent.head + exponent.tail);
  const V n = hn::Round(hn::Mul(h, hn::Add(whole_e, log_f)));
  V r = hn::MulSub(hn::Set(d, exponent.head), whole_e, n);
  r = hn::MulAdd(hn::Set(d, exponent.tail), whole_e, r);
  r = hn::MulAdd(h, log_f, r);  // |r| <= 1/2
  // 2^r: Taylor polynomial of degree 7, off by less than 6e-9
  V q = hn::Set(d, 1.52527338e-5f);
  q = hn::MulAdd(q, r, hn::Set(d, 1.54035304e-4f));
  q = hn::MulAdd(q, r, hn::Set(d, 1.33335581e-3f));
  q = hn::MulAdd(q, r, hn::Set(d, 9.61812911e-3f));
  q = hn::MulAdd(q, r, hn::Set(d, 5.55041087e-2f));
  q = hn::MulAdd(q, r, hn::Set(d, 2.40226507e-1f));
  q = hn::MulAdd(q, r, hn::Set(d, 6.93147181e-1f));
  q = hn::MulAdd(q, r, one);
  const auto scale = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(di, n), hn::Set(di, 127)));
  const V power = hn::Mul(hn::BitCast(d, scale), q);
  return hn::IfThenElse(hn::Lt(x, hn::Inf(d)), power, x);
}

// |z|ε^p from |z|ε².
template <MaskCompression kCompression, class D, class V = hn::Vec<D>>
HWY_INLINE V compress(D d, V squared, const MaskLossRule& rule) {
  if constexpr (kCompression == MaskCompression::kLinear) {
    return hn::Sqrt(squared);
  } else if constexpr (kCompression == MaskCompression::kRoot) {
    return hn::Sqrt(hn::Sqrt(squared));
  } else {
    return positive_power(d, squared, rule.half_power);
  }
}

template <class V>
struct Complex {
  V re, im;
};
template <class D, class V = hn::Vec<D>>
HWY_INLINE Complex<V> load_complex(D d, const float* from) {
  Complex<V> z;
  hn::LoadInterleaved2(d, from, z.re, z.im);
  return z;
}

// mask · x for the bins from k.
template <bool kComplex, class D, class V = hn::Vec<D>>
HWY_INLINE Complex<V> masked(D d, const float* mask_re, const float* mask_im, int64_t k,
                             const Complex<V>& x) {
  const V re = hn::LoadU(d, mask_re + k);
  if constexpr (kComplex) {
    const V im = hn::LoadU(d, mask_im + k);
    return {hn::NegMulAdd(im, x.im, hn::Mul(re, x.re)), hn::MulAdd(im, x.re, hn::Mul(re, x.im))};
  }
  return {hn::Mul(re, x.re), hn::Mul(re, x.im)};
}

template <class V>
struct Element {
  V loss;
  Complex<V> gradient;  // with respect to the estimate
};
template <MaskCompression kCompression, class D, class V = hn::Vec<D>>
HWY_INLINE Element<V> loss_element(D d, const Complex<V>& estimate, const Complex<V>& target,
                                   const MaskLossRule& rule) {
  const V weight = hn::Set(d, rule.complex_weight);
  const Complex<V> delta = {hn::Sub(estimate.re, target.re), hn::Sub(estimate.im, target.im)};
  const Complex<V> weighted = {hn::Mul(weight, delta.re), hn::Mul(weight, delta.im)};
  Element<V> e;
  e.loss = hn::MulAdd(weighted.re, delta.re, hn::Mul(weighted.im, delta.im));
  e.gradient = {hn::Add(weighted.re, weighted.re), hn::Add(weighted.im, weighted.im)};
  if constexpr (kCompression != MaskCompression::kNone) {
    const V epsilon2 = hn::Set(d, rule.epsilon2);
    const auto squared = [&](const Complex<V>& z) HWY_ATTR {
      return hn::MulAdd(z.re, z.re, hn::MulAdd(z.im, z.im, epsilon2));
    };
    const V estimate2 = squared(estimate);
    const V compressed = compress<kCompression>(d, estimate2, rule);
    const V difference = hn::Sub(compressed, compress<kCompression>(d, squared(target), rule));
    const V magnitude = hn::Mul(hn::Set(d, rule.magnitude_weight), difference);
    e.loss = hn::MulAdd(magnitude, difference, e.loss);
    // ∂|z|ε^p/∂z = p · |z|ε^p / |z|ε² · z
    const V slope = hn::Div(hn::Mul(hn::Set(d, 2 * rule.power), compressed), estimate2);
    const V factor = hn::Mul(magnitude, slope);
    e.gradient.re = hn::MulAdd(factor, estimate.re, e.gradient.re);
    e.gradient.im = hn::MulAdd(factor, estimate.im, e.gradient.im);
  }
  return e;
}

// sum += v, in float64.
template <class D, class VD>
HWY_INLINE void add_wide(D /*d*/, hn::Vec<D> v, VD& sum0, VD& sum1) {
  const DoubleTag dd;
#if HWY_TARGET == HWY_SCALAR
  static_cast<void>(sum1);
  sum0 = hn::Add(sum0, hn::PromoteTo(dd, v));
#else
  if constexpr (hn::MaxLanes(D()) == 1) {
    static_cast<void>(sum1);
    HWY_ALIGN double lanes[hn::MaxLanes(dd)] = {static_cast<double>(hn::GetLane(v))};
    sum0 = hn::Add(sum0, hn::Load(dd, lanes));
  } else {
    const HalfFloatTag half;
    sum0 = hn::Add(sum0, hn::PromoteTo(dd, hn::LowerHalf(half, v)));
    sum1 = hn::Add(sum1, hn::PromoteTo(dd, hn::UpperHalf(half, v)));
  }
#endif
}

// Σ element of the row, and the gradient of its mask.
template <MaskCompression kCompression, bool kComplex, bool kGradient>
HWY_INLINE double loss_row(const MaskLossRule& rule, const cpu::MaskLossRow& r) {
  const DoubleTag dd;
  auto sum0 = hn::Zero(dd);
  auto sum1 = hn::Zero(dd);
  for_lanes(r.bins, [&](auto d, int64_t k) HWY_ATTR {
    const auto x = load_complex(d, r.mixture + 2 * k);
    const auto target = load_complex(d, r.target + 2 * k);
    const auto estimate = masked<kComplex>(d, r.mask_re, r.mask_im, k, x);
    const auto e = loss_element<kCompression>(d, estimate, target, rule);
    add_wide(d, e.loss, sum0, sum1);
    if constexpr (kGradient) {
      const auto& g = e.gradient;
      const auto store = [&](auto v, float* to) HWY_ATTR {
        hn::StoreU(r.add ? hn::Add(hn::LoadU(d, to), v) : v, d, to);
      };
      store(hn::MulAdd(g.re, x.re, hn::Mul(g.im, x.im)), r.gradient_re + k);
      if constexpr (kComplex) {
        store(hn::MulSub(g.im, x.re, hn::Mul(g.re, x.im)), r.gradient_im + k);
      }
    }
  });
  return hn::GetLane(hn::SumOfLanes(dd, hn::Add(sum0, sum1)));
}

}  // namespace stemfabric::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
