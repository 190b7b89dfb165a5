// The transform of one frame of two channels, and the two spectra that it holds.
#if defined(SF_KERNELS_STFT_STFT_FRAME_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SF_KERNELS_STFT_STFT_FRAME_INL_H_
#undef SF_KERNELS_STFT_STFT_FRAME_INL_H_
#else
#define SF_KERNELS_STFT_STFT_FRAME_INL_H_
#endif

#include "kernels/common/fft_simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace stemfabric::HWY_NAMESPACE {

// Z = FFT of window · (left + i·right), with Z[n] = Z[0] behind its end.
HWY_INLINE SplitComplex frame_transform(const FftTables& tables, const FftScratch& scratch,
                                        const float* HWY_RESTRICT left,
                                        const float* HWY_RESTRICT right) {
  const float* HWY_RESTRICT window = tables.window.data();
  const SplitComplex z = fft(tables, scratch, [&](auto d, int i) HWY_ATTR {
    const auto w = hn::LoadU(d, window + i);
    return ComplexVec<hn::Vec<decltype(d)>>{hn::Mul(w, hn::LoadU(d, left + i)),
                                            hn::Mul(w, hn::LoadU(d, right + i))};
  });
  z.re[tables.n] = z.re[0];
  z.im[tables.n] = z.im[0];
  return z;
}

// body(d, k) for bins k = 0 … n/2 in steps of the vector d.
template <class Body>
HWY_INLINE void for_bins(int n, const Body& body) {
  const FloatTag d;
  for (int k = 0; k < n / 2; k += static_cast<int>(hn::Lanes(d))) {
    body(d, k);
  }
  body(hn::CappedTag<float, 1>(), n / 2);
}

template <class V>
struct StereoBins {
  ComplexVec<V> left, right;
};
// Both channels' bins k, k + 1, …
template <class D>
HWY_INLINE StereoBins<hn::Vec<D>> stereo_bins(D d, const SplitComplex& z, int n, int k) {
  const int mirror = n - k - static_cast<int>(hn::Lanes(d)) + 1;
  const auto half = hn::Set(d, 0.5f);
  const auto at = load_complex(d, z, k);
  const auto mirrored = load_complex(d, z, mirror);
  const auto re = hn::Reverse(d, mirrored.re);
  const auto im = hn::Reverse(d, mirrored.im);
  return {{hn::Mul(half, hn::Add(at.re, re)), hn::Mul(half, hn::Sub(at.im, im))},
          {hn::Mul(half, hn::Add(at.im, im)), hn::Mul(half, hn::Sub(re, at.re))}};
}

}  // namespace stemfabric::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SF_KERNELS_STFT_STFT_FRAME_INL_H_
