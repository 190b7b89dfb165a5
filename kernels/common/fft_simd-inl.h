// The complex FFT on the CPU's vectors: real and imaginary parts in arrays of their own, every step
// from one pair of arrays to another (fft_tables.h says which algorithm). With s the number of
// interleaved transforms of a step, its vectors run over these s, except in the first step (s = 1),
// where they run over the butterflies and are stored interleaved.
#if defined(SF_KERNELS_COMMON_FFT_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SF_KERNELS_COMMON_FFT_SIMD_INL_H_
#undef SF_KERNELS_COMMON_FFT_SIMD_INL_H_
#else
#define SF_KERNELS_COMMON_FFT_SIMD_INL_H_
#endif

#include <algorithm>
#include <limits>
#include <utility>

#include "kernels/common/fft_scratch.h"
#include "kernels/common/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace stemfabric::HWY_NAMESPACE {

template <class V>
struct ComplexVec {
  V re, im;
};
template <class V>
HWY_INLINE ComplexVec<V> operator+(const ComplexVec<V>& a, const ComplexVec<V>& b) {
  return {hn::Add(a.re, b.re), hn::Add(a.im, b.im)};
}
template <class V>
HWY_INLINE ComplexVec<V> operator-(const ComplexVec<V>& a, const ComplexVec<V>& b) {
  return {hn::Sub(a.re, b.re), hn::Sub(a.im, b.im)};
}
template <class V>
HWY_INLINE ComplexVec<V> operator*(const ComplexVec<V>& a, const ComplexVec<V>& b) {
  return {hn::MulSub(a.re, b.re, hn::Mul(a.im, b.im)), hn::MulAdd(a.re, b.im, hn::Mul(a.im, b.re))};
}

template <class D>
HWY_INLINE ComplexVec<hn::Vec<D>> load_complex(D d, const SplitComplex& from, int64_t i) {
  return {hn::LoadU(d, from.re + i), hn::LoadU(d, from.im + i)};
}
template <class D>
HWY_INLINE void store_complex(D d, const ComplexVec<hn::Vec<D>>& z, const SplitComplex& to,
                              int64_t i) {
  hn::StoreU(z.re, d, to.re + i);
  hn::StoreU(z.im, d, to.im + i);
}

// The transform of four points.
template <class V>
HWY_INLINE void butterfly4(ComplexVec<V>& a, ComplexVec<V>& b, ComplexVec<V>& c, ComplexVec<V>& d) {
  const auto ac = a + c;
  const auto a_c = a - c;
  const auto bd = b + d;
  const auto b_d = b - d;
  a = ac + bd;
  b = {hn::Add(a_c.re, b_d.im), hn::Sub(a_c.im, b_d.re)};  // a − ib − c + id
  c = ac - bd;
  d = {hn::Sub(a_c.re, b_d.im), hn::Add(a_c.im, b_d.re)};  // a + ib − c − id
}

// load(d, i) gives points i, i + 1, … of the input. Are all of them finite?
template <class Load>
HWY_INLINE bool first_step(int n, const float* HWY_RESTRICT twiddles, const Load& load,
                           const SplitComplex& out) {
  const FloatTag d;
  const int m = n / 4;
  const auto twiddle = [&](int row, int i) HWY_ATTR {
    return ComplexVec<hn::Vec<FloatTag>>{hn::LoadU(d, twiddles + row * 2 * m + i),
                                         hn::LoadU(d, twiddles + (row * 2 + 1) * m + i)};
  };
  auto zero = hn::Zero(d);  // times every point: 0 or NaN
  for (int i = 0; i < m; i += static_cast<int>(hn::Lanes(d))) {
    auto z0 = load(d, i);
    auto z1 = load(d, i + m);
    auto z2 = load(d, i + 2 * m);
    auto z3 = load(d, i + 3 * m);
    butterfly4(z0, z1, z2, z3);
    zero = hn::MulAdd(hn::Add(z0.re, z0.im), hn::Zero(d), zero);
    z1 = z1 * twiddle(0, i);
    z2 = z2 * twiddle(1, i);
    z3 = z3 * twiddle(2, i);
    hn::StoreInterleaved4(z0.re, z1.re, z2.re, z3.re, d, out.re + 4 * i);
    hn::StoreInterleaved4(z0.im, z1.im, z2.im, z3.im, d, out.im + 4 * i);
  }
  return hn::GetLane(hn::SumOfLanes(d, zero)) == 0.0f;
}

// A step of s interleaved transforms of 4·m points; s is a multiple of the lanes of d.
template <class D>
HWY_INLINE void radix4_step(D d, int s, int m, const float* HWY_RESTRICT twiddles,
                            const SplitComplex& in, const SplitComplex& out) {
  const int quarter = s * m;
  for (int p = 0; p < m; ++p) {
    const auto twiddle = [&](int row) HWY_ATTR {
      return ComplexVec<hn::Vec<D>>{hn::Set(d, twiddles[row * 2 * m + p]),
                                    hn::Set(d, twiddles[(row * 2 + 1) * m + p])};
    };
    const auto w1 = twiddle(0);
    const auto w2 = twiddle(1);
    const auto w3 = twiddle(2);
    for (int q = 0; q < s; q += static_cast<int>(hn::Lanes(d))) {
      const int from = s * p + q;
      auto z0 = load_complex(d, in, from);
      auto z1 = load_complex(d, in, from + quarter);
      auto z2 = load_complex(d, in, from + 2 * quarter);
      auto z3 = load_complex(d, in, from + 3 * quarter);
      butterfly4(z0, z1, z2, z3);
      const int to = 4 * s * p + q;
      store_complex(d, z0, out, to);
      store_complex(d, z1 * w1, out, to + s);
      store_complex(d, z2 * w2, out, to + 2 * s);
      store_complex(d, z3 * w3, out, to + 3 * s);
    }
  }
}

// The last step: transforms of four or two points.
HWY_INLINE void last_step(int n, bool radix4, const SplitComplex& in, const SplitComplex& out) {
  const FloatTag d;
  const int s = radix4 ? n / 4 : n / 2;
  for (int q = 0; q < s; q += static_cast<int>(hn::Lanes(d))) {
    auto z0 = load_complex(d, in, q);
    auto z1 = load_complex(d, in, q + s);
    if (radix4) {
      auto z2 = load_complex(d, in, q + 2 * s);
      auto z3 = load_complex(d, in, q + 3 * s);
      butterfly4(z0, z1, z2, z3);
      store_complex(d, z0, out, q);
      store_complex(d, z1, out, q + s);
      store_complex(d, z2, out, q + 2 * s);
      store_complex(d, z3, out, q + 3 * s);
    } else {
      store_complex(d, z0 + z1, out, q);
      store_complex(d, z0 - z1, out, q + s);
    }
  }
}

// Z[k] = Σ_i z[i] exp(−2πi·k·i/n); the result lies in one of the scratch's pairs. load(d, i) gives
// points i, i + 1, … of z for a vector d. If a point is not finite, all of Z is NaN.
template <class Load>
HWY_INLINE SplitComplex fft(const FftTables& tables, const FftScratch& scratch, const Load& load) {
  const hn::CappedTag<float, 4> d4;
  const FloatTag d;
  const int n = tables.n;
  const float* twiddles = tables.twiddles.data();
  SplitComplex in = scratch.first;
  SplitComplex out = scratch.second;
  if (!first_step(n, twiddles, load, in)) {
    std::fill_n(in.re, n, std::numeric_limits<float>::quiet_NaN());
    std::fill_n(in.im, n, std::numeric_limits<float>::quiet_NaN());
    return in;
  }
  twiddles += 6 * (n / 4);
  int s = 4;
  int left = n / 4;
  for (; left > 4; left /= 4) {
    if (s == 4) {
      radix4_step(d4, s, left / 4, twiddles, in, out);
    } else {
      radix4_step(d, s, left / 4, twiddles, in, out);
    }
    twiddles += 6 * (left / 4);
    s *= 4;
    std::swap(in, out);
  }
  last_step(n, left == 4, in, out);
  return out;
}

}  // namespace stemfabric::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SF_KERNELS_COMMON_FFT_SIMD_INL_H_
