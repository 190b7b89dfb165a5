// The activations on SIMD vectors, for the elementwise op and the epilogues of the linear layer.
// Included once for each SIMD target (Highway).
//
// relu_quantum needs sigmoid and tanh of r >= 0. Both follow from u = 1 − e^(−r):
//   τ = e^(−r) = 1 − u,  s = 1 + τ,  t = 1 + τ²,  1 − τ² = u·s
//   sigmoid = 1/s = t/(s·t),  tanh = u·s/t = u·s·s/(s·t)     (one division)
//   sigmoid' = τ/s²,          tanh' = (2τ/t)²                (two, which rounds less)
// u and τ are rounded separately: u keeps tanh precise near 0, τ keeps the slopes precise far out.
// Nothing overflows.
#if defined(STEMFABRIC_ACTIVATION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef STEMFABRIC_ACTIVATION_INL_H_
#undef STEMFABRIC_ACTIVATION_INL_H_
#else
#define STEMFABRIC_ACTIVATION_INL_H_
#endif

#include <hwy/highway.h>

#include "kernels/activation/activation.h"

HWY_BEFORE_NAMESPACE();
namespace stemfabric {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// NaN stays NaN.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V relu_vector(D d, V x) {
  return hn::IfThenZeroElse(hn::Le(x, hn::Zero(d)), x);
}

template <class V>
struct ExpNeg {
  V tau;  // e^(−r)
  V u;    // 1 − e^(−r)
};

// For r >= 0, both to about one rounding. Values of r above 87 count as 87, where u is 1.
template <class D, class V = hn::Vec<D>>
HWY_INLINE ExpNeg<V> exp_neg(D d, V r) {
  const hn::RebindToSigned<D> di;
  const V x = hn::Neg(hn::Min(r, hn::Set(d, 87.0f)));
  const V n = hn::Round(hn::Mul(x, hn::Set(d, 1.44269504f)));
  // f = x − n ln 2, with ln 2 in two parts; |f| <= 0.3466
  V f = hn::NegMulAdd(n, hn::Set(d, 0.693145752f), x);
  f = hn::NegMulAdd(n, hn::Set(d, 1.42860677e-6f), f);
  // e^f − 1 = f + f² (1/2 + f/6 + …): the Taylor polynomial of degree 7 is off by < 6e-9
  V p = hn::Set(d, 1.0f / 5040.0f);
  p = hn::MulAdd(p, f, hn::Set(d, 1.0f / 720.0f));
  p = hn::MulAdd(p, f, hn::Set(d, 1.0f / 120.0f));
  p = hn::MulAdd(p, f, hn::Set(d, 1.0f / 24.0f));
  p = hn::MulAdd(p, f, hn::Set(d, 1.0f / 6.0f));
  p = hn::MulAdd(p, f, hn::Set(d, 0.5f));
  p = hn::MulAdd(hn::Mul(f, f), p, f);
  // 1 − 2ⁿ e^f = (1 − 2ⁿ) − 2ⁿ (e^f − 1); the first term is exact down to n = −24
  const auto exponent = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(di, n), hn::Set(di, 127)));
  const V scale = hn::BitCast(d, exponent);
  return {hn::MulAdd(scale, p, scale), hn::NegMulAdd(scale, p, hn::Sub(hn::Set(d, 1.0f), scale))};
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V relu_quantum_vector(D d, V x, const QuantumCoefficients& q) {
  const V one = hn::Set(d, 1.0f);
  const V r = relu_vector(d, x);
  const auto e = exp_neg(d, r);
  const V s = hn::Add(one, e.tau);
  const V t = hn::MulAdd(e.tau, e.tau, one);
  const V inverse = hn::Div(one, hn::Mul(s, t));
  const V tanh_part = hn::Mul(hn::Set(d, q.tanh), hn::Mul(e.u, hn::Mul(s, s)));
  const V both = hn::Mul(inverse, hn::MulAdd(hn::Set(d, q.sigmoid), t, tanh_part));
  return hn::MulAdd(hn::Set(d, q.relu), r, both);
}

// The derivative of relu_quantum at x; 0 for x <= 0.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V relu_quantum_derivative(D d, V x, const QuantumCoefficients& q) {
  const V one = hn::Set(d, 1.0f);
  const V tau = exp_neg(d, relu_vector(d, x)).tau;
  const V s = hn::Add(one, tau);
  const V t = hn::MulAdd(tau, tau, one);
  const V sigmoid_slope = hn::Div(tau, hn::Mul(s, s));
  const V sech = hn::Div(hn::Add(tau, tau), t);
  const V sum = hn::MulAdd(hn::Set(d, q.sigmoid), sigmoid_slope,
                           hn::MulAdd(hn::Mul(hn::Set(d, q.tanh), sech), sech, hn::Set(d, q.relu)));
  const V slope = hn::IfThenElse(hn::Eq(x, x), sum, x);
  return hn::IfThenZeroElse(hn::Le(x, hn::Zero(d)), slope);
}

// act(x)
template <class D, class V = hn::Vec<D>>
HWY_INLINE V activate(D d, Activation activation, const QuantumCoefficients& q, V x) {
  switch (activation) {
    case Activation::kRelu:
      return relu_vector(d, x);
    case Activation::kReluQuantum:
      return relu_quantum_vector(d, x, q);
    case Activation::kNone:
      break;
  }
  return x;
}

// act'(saved) · dy. `saved` is the pre-activation; for kRelu its output does as well.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V activation_gradient(D d, Activation activation, const QuantumCoefficients& q, V saved,
                                 V dy) {
  switch (activation) {
    case Activation::kRelu:
      return hn::IfThenZeroElse(hn::Le(saved, hn::Zero(d)), dy);
    case Activation::kReluQuantum:
      return hn::Mul(dy, relu_quantum_derivative(d, saved, q));
    case Activation::kNone:
      break;
  }
  return dy;
}

// The first n lanes from memory, the others 0; n >= 1, all lanes if n >= Lanes(d).
template <class D, class V = hn::Vec<D>>
HWY_INLINE V load_first(D d, const float* from, int64_t n) {
  constexpr int64_t kLanes = hn::MaxLanes(D());
  if (HWY_LIKELY(n >= kLanes)) {
    return hn::LoadU(d, from);
  }
  HWY_ALIGN float lanes[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) {
    lanes[i] = from[i];
  }
  return hn::Load(d, lanes);
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE void store_first(D d, V v, float* to, int64_t n) {
  constexpr int64_t kLanes = hn::MaxLanes(D());
  if (HWY_LIKELY(n >= kLanes)) {
    hn::StoreU(v, d, to);
    return;
  }
  HWY_ALIGN float lanes[kLanes];
  hn::Store(v, d, lanes);
  for (int64_t i = 0; i < n; ++i) {
    to[i] = lanes[i];
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace stemfabric
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
