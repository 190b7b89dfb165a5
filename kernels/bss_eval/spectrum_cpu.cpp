// The transform: two real samples make one complex number; of the 2048 of these, every eighth
// belongs to one of 8 sub-sequences, which lie side by side in memory. So all vectors of the first
// four radix-4 steps (Stockham: no bit reversal) hold 8 sub-sequences and need no shuffle. One last
// radix-8 step joins them, and the spectrum of the real block follows from that of the complex one.
#include "kernels/bss_eval/spectrum_cpu.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numbers>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/bss_eval/spectrum_cpu.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "kernels/common/simd-inl.h"

#ifndef SF_KERNELS_BSS_EVAL_SPECTRUM_TABLES
#define SF_KERNELS_BSS_EVAL_SPECTRUM_TABLES
namespace stemfabric::cpu {

constexpr int64_t kComplexSize = kFftSize / 2;  // complex numbers of a block
constexpr int64_t kSub = kComplexSize / 8;      // of one of the 8 sub-sequences
static_assert(kSub == 256, "four radix-4 steps");

// Roots of unity, e^{−2πi …}.
struct FftTables {
  FftTables();
  double steps[(64 + 16 + 4) * 6];  // of p = 0 … n/4−1 in each step: w, w², w³
  alignas(64) double join_re[8][kSub], join_im[8][kSub];    // w_2048^{rk}
  alignas(64) double real_re[kSub * 4], real_im[kSub * 4];  // w_4096^{k+1}
};
const FftTables& fft_tables();

}  // namespace stemfabric::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace stemfabric::HWY_NAMESPACE {

using cpu::kBinStride;
using cpu::kComplexSize;
using cpu::kFftSize;
using cpu::kSub;
using Lanes = hn::CappedTag<double, 8>;
using Vector = hn::Vec<Lanes>;
constexpr int64_t kVector = hn::MaxLanes(Lanes());

namespace {

struct Complex {
  Vector re, im;
};
HWY_INLINE Complex add(Complex a, Complex b) { return {hn::Add(a.re, b.re), hn::Add(a.im, b.im)}; }
HWY_INLINE Complex sub(Complex a, Complex b) { return {hn::Sub(a.re, b.re), hn::Sub(a.im, b.im)}; }
HWY_INLINE Complex mul(Complex a, Complex b) {
  return {hn::NegMulAdd(a.im, b.im, hn::Mul(a.re, b.re)),
          hn::MulAdd(a.im, b.re, hn::Mul(a.re, b.im))};
}
HWY_INLINE Complex load(const double* re, const double* im, int64_t i) {
  const Lanes d;
  return {hn::LoadU(d, re + i), hn::LoadU(d, im + i)};
}
HWY_INLINE void store(Complex v, double* re, double* im, int64_t i) {
  const Lanes d;
  hn::StoreU(v.re, d, re + i);
  hn::StoreU(v.im, d, im + i);
}

// x0 … x3 become their discrete Fourier transform.
HWY_INLINE void dft4(Complex& x0, Complex& x1, Complex& x2, Complex& x3) {
  const Complex even = add(x0, x2);
  const Complex even_difference = sub(x0, x2);
  const Complex odd = add(x1, x3);
  const Complex odd_difference = sub(x1, x3);
  x0 = add(even, odd);
  x2 = sub(even, odd);
  x1 = {hn::Add(even_difference.re, odd_difference.im),
        hn::Sub(even_difference.im, odd_difference.re)};
  x3 = {hn::Sub(even_difference.re, odd_difference.im),
        hn::Add(even_difference.im, odd_difference.re)};
}

// One step of the 8 transforms of length kSub, n of which are still to be split.
template <int64_t kN>
HWY_INLINE void radix4_step(const double* HWY_RESTRICT from, double* HWY_RESTRICT to,
                            const double* w) {
  const Lanes d;
  constexpr int64_t kStride = kSub / kN * 8;
  constexpr int64_t kApart = kSub / 4 * 8;
  const double* re = from;
  const double* im = from + kComplexSize;
  for (int64_t p = 0; p < kN / 4; ++p) {
    double* out = to + 4 * p * kStride;
    for (int64_t q = 0; q < kStride; q += kVector) {
      const int64_t i = p * kStride + q;
      Complex x0 = load(re, im, i);
      Complex x1 = load(re, im, i + kApart);
      Complex x2 = load(re, im, i + 2 * kApart);
      Complex x3 = load(re, im, i + 3 * kApart);
      dft4(x0, x1, x2, x3);
      if constexpr (kN > 4) {
        x1 = mul(x1, {hn::Set(d, w[6 * p]), hn::Set(d, w[6 * p + 1])});
        x2 = mul(x2, {hn::Set(d, w[6 * p + 2]), hn::Set(d, w[6 * p + 3])});
        x3 = mul(x3, {hn::Set(d, w[6 * p + 4]), hn::Set(d, w[6 * p + 5])});
      }
      store(x0, out, out + kComplexSize, q);
      store(x1, out, out + kComplexSize, q + kStride);
      store(x2, out, out + kComplexSize, q + 2 * kStride);
      store(x3, out, out + kComplexSize, q + 3 * kStride);
    }
  }
}

#if HWY_TARGET != HWY_SCALAR
// column[c][i] = x[8 i + c] for c, i < 4
HWY_INLINE void transpose4(const double* x, hn::Vec<hn::FixedTag<double, 4>> (&column)[4]) {
  const hn::FixedTag<double, 4> d;
  const auto r0 = hn::LoadU(d, x);
  const auto r1 = hn::LoadU(d, x + 8);
  const auto r2 = hn::LoadU(d, x + 16);
  const auto r3 = hn::LoadU(d, x + 24);
  const auto low01 = hn::InterleaveLower(d, r0, r1);
  const auto low23 = hn::InterleaveLower(d, r2, r3);
  const auto high01 = hn::InterleaveUpper(d, r0, r1);
  const auto high23 = hn::InterleaveUpper(d, r2, r3);
  column[0] = hn::ConcatLowerLower(d, low23, low01);
  column[1] = hn::ConcatLowerLower(d, high23, high01);
  column[2] = hn::ConcatUpperUpper(d, low23, low01);
  column[3] = hn::ConcatUpperUpper(d, high23, high01);
}
#endif

// column[r] = x[8 i + r] for i = 0 … kVector−1: the values of sub-sequence r.
HWY_INLINE void load_columns(const double* x, Vector (&column)[8]) {
#if HWY_TARGET == HWY_SCALAR
  for (int r = 0; r < 8; ++r) {
    column[r] = hn::Load(Lanes(), x + r);
  }
#else
  for (int half = 0; half < 2; ++half) {
    hn::Vec<hn::FixedTag<double, 4>> low[4];
    transpose4(x + 4 * half, low);
#if HWY_TARGET <= HWY_AVX3
    hn::Vec<hn::FixedTag<double, 4>> high[4];
    transpose4(x + 32 + 4 * half, high);
    for (int c = 0; c < 4; ++c) {
      column[4 * half + c] = hn::Combine(Lanes(), high[c], low[c]);
    }
#else
    for (int c = 0; c < 4; ++c) {
      column[4 * half + c] = low[c];
    }
#endif
  }
#endif
}

// The last step: the transforms of the 8 sub-sequences become that of the whole.
HWY_INLINE void join(const double* HWY_RESTRICT from, double* HWY_RESTRICT to) {
  const Lanes d;
  const cpu::FftTables& tables = cpu::fft_tables();
  const auto root = hn::Set(d, std::numbers::sqrt2 / 2);
  for (int64_t k = 0; k < kSub; k += kVector) {
    Vector re[8];
    Vector im[8];
    load_columns(from + 8 * k, re);
    load_columns(from + kComplexSize + 8 * k, im);
    Complex x[8];
    x[0] = {re[0], im[0]};
    for (int r = 1; r < 8; ++r) {
      x[r] = mul({re[r], im[r]}, load(tables.join_re[r], tables.join_im[r], k));
    }
    dft4(x[0], x[2], x[4], x[6]);
    dft4(x[1], x[3], x[5], x[7]);
    const Complex odd[4] = {
        x[1],
        {hn::Mul(root, hn::Add(x[3].re, x[3].im)), hn::Mul(root, hn::Sub(x[3].im, x[3].re))},
        {x[5].im, hn::Neg(x[5].re)},
        {hn::Mul(root, hn::Sub(x[7].im, x[7].re)),
         hn::Neg(hn::Mul(root, hn::Add(x[7].re, x[7].im)))}};
    for (int j = 0; j < 4; ++j) {
      store(add(x[2 * j], odd[j]), to, to + kComplexSize, k + kSub * j);
      store(sub(x[2 * j], odd[j]), to, to + kComplexSize, k + kSub * (j + 4));
    }
  }
}

// The transform of kComplexSize complex numbers (real parts, then imaginary parts) in x, which is
// lost; the result is in y.
HWY_INLINE void complex_fft(double* HWY_RESTRICT x, double* HWY_RESTRICT y) {
  const double* w = cpu::fft_tables().steps;
  radix4_step<256>(x, y, w);
  radix4_step<64>(y, x, w + 64 * 6);
  radix4_step<16>(x, y, w + 80 * 6);
  radix4_step<4>(y, x, nullptr);
  join(x, y);
}

// Even samples to the real parts, odd samples to the imaginary ones.
HWY_INLINE void split_samples(const float* x, double* re, double* im, int64_t n) {
  const Lanes d;
  const hn::Rebind<float, Lanes> df;
  for (int64_t i = 0; i < n; i += kVector) {
    hn::Vec<decltype(df)> even;
    hn::Vec<decltype(df)> odd;
    hn::LoadInterleaved2(df, x + 2 * i, even, odd);
    store({hn::PromoteTo(d, even), hn::PromoteTo(d, odd)}, re, im, i);
  }
}
HWY_INLINE void split_samples(const double* x, double* re, double* im, int64_t n) {
  const Lanes d;
  for (int64_t i = 0; i < n; i += kVector) {
    Complex v{};
    hn::LoadInterleaved2(d, x + 2 * i, v.re, v.im);
    store(v, re, im, i);
  }
}

HWY_INLINE Complex load_backwards(const double* re, const double* im, int64_t last) {
  const Lanes d;
  const Complex v = load(re, im, last - (kVector - 1));
  return {hn::Reverse(d, v.re), hn::Reverse(d, v.im)};
}
HWY_INLINE void store_backwards(Complex v, double* re, double* im, int64_t last) {
  const Lanes d;
  store({hn::Reverse(d, v.re), hn::Reverse(d, v.im)}, re, im, last - (kVector - 1));
}

// X[k] = E + w^k O and X[M−k] = conj(E − w^k O) for k = 1 … M/2, where E and O are the transforms
// of the even and odd samples: E = (Z[k] + conj Z[M−k]) / 2, i O = (Z[k] − conj Z[M−k]) / 2.
HWY_INLINE void spectrum_of_real(const double* z, double* spectrum) {
  const Lanes d;
  const cpu::FftTables& tables = cpu::fft_tables();
  const auto half = hn::Set(d, 0.5);
  const double* zi = z + kComplexSize;
  double* xi = spectrum + kBinStride;
  std::fill(spectrum + kComplexSize, spectrum + kBinStride, 0.0);
  std::fill(xi + kComplexSize, xi + kBinStride, 0.0);
  for (int64_t k = 1; k <= kComplexSize / 2; k += kVector) {
    const Complex a = load(z, zi, k);
    const Complex b = load_backwards(z, zi, kComplexSize - k);
    const Complex e = {hn::Mul(half, hn::Add(a.re, b.re)), hn::Mul(half, hn::Sub(a.im, b.im))};
    const Complex o = {hn::Mul(half, hn::Add(a.im, b.im)), hn::Mul(half, hn::Sub(b.re, a.re))};
    const Complex wo = mul(o, load(tables.real_re, tables.real_im, k - 1));
    store(add(e, wo), spectrum, xi, k);
    store_backwards({hn::Sub(e.re, wo.re), hn::Sub(wo.im, e.im)}, spectrum, xi, kComplexSize - k);
  }
  spectrum[0] = z[0] + zi[0];
  xi[0] = 0;
  spectrum[kComplexSize] = z[0] - zi[0];
  xi[kComplexSize] = 0;
}

// The way back, twice too large. Real and imaginary parts change places: the transform of that is
// the inverse transform with its parts in each other's place.
HWY_INLINE void complex_of_spectrum(const double* spectrum, double* z) {
  const cpu::FftTables& tables = cpu::fft_tables();
  const double* xi = spectrum + kBinStride;
  double* zr = z + kComplexSize;
  double* zi = z;
  for (int64_t k = 1; k <= kComplexSize / 2; k += kVector) {
    const Complex a = load(spectrum, xi, k);
    const Complex b = load_backwards(spectrum, xi, kComplexSize - k);
    const Complex e = {hn::Add(a.re, b.re), hn::Sub(a.im, b.im)};
    const Complex wo = {hn::Sub(a.re, b.re), hn::Add(a.im, b.im)};
    const Complex w = load(tables.real_re, tables.real_im, k - 1);
    const Complex o = mul(wo, {w.re, hn::Neg(w.im)});
    store({hn::Sub(e.re, o.im), hn::Add(e.im, o.re)}, zr, zi, k);
    store_backwards({hn::Add(e.re, o.im), hn::Sub(o.re, e.im)}, zr, zi, kComplexSize - k);
  }
  zr[0] = spectrum[0] + spectrum[kComplexSize];
  zi[0] = spectrum[0] - spectrum[kComplexSize];
}

template <typename T>
HWY_INLINE void forward(const T* x, int64_t n, double* spectrum, double* scratch) {
  double* z = scratch;
  const int64_t whole = n / 16 * 8;  // complex numbers of whole vectors
  split_samples(x, z, z + kComplexSize, whole);
  std::fill(z + whole, z + kComplexSize, 0.0);
  std::fill(z + kComplexSize + whole, z + kFftSize, 0.0);
  for (int64_t t = 2 * whole; t < n; ++t) {
    z[t / 2 + t % 2 * kComplexSize] = static_cast<double>(x[t]);
  }
  complex_fft(z, scratch + kFftSize);
  spectrum_of_real(scratch + kFftSize, spectrum);
}

}  // namespace

void bss_forward_float(const float* x, int64_t n, double* spectrum, double* scratch) {
  forward(x, n, spectrum, scratch);
}
void bss_forward_double(const double* x, int64_t n, double* spectrum, double* scratch) {
  forward(x, n, spectrum, scratch);
}

void bss_inverse(const double* spectrum, double* x, double* scratch) {
  const Lanes d;
  double* z = scratch;
  complex_of_spectrum(spectrum, z);
  complex_fft(z, scratch + kFftSize);
  const double* odd = scratch + kFftSize;
  const double* even = odd + kComplexSize;
  for (int64_t i = 0; i < kComplexSize; i += kVector) {
    hn::StoreInterleaved2(hn::LoadU(d, even + i), hn::LoadU(d, odd + i), d, x + 2 * i);
  }
}

namespace {

// A tile of kRows x kColumns products stays in registers while the terms are added.
template <int kRows, int kColumns, bool kConjugate>
HWY_INLINE void product_tile(const cpu::SpectrumProduct& s, int64_t row, int64_t column,
                             int64_t bin) {
  Complex sum[kRows][kColumns];
  double* out[kRows][kColumns];
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kColumns; ++j) {
      out[i][j] = s.out + (row + i) * s.out_row + (column + j) * s.out_column + bin;
      sum[i][j] = s.accumulate ? load(out[i][j], out[i][j] + kBinStride, 0)
                               : Complex{hn::Zero(Lanes()), hn::Zero(Lanes())};
    }
  }
  const double* a = s.a + row * s.a_row + bin;
  const double* b = s.b + column * s.b_column + bin;
  for (int64_t t = 0; t < s.terms; ++t) {
    Complex x[kRows];
    for (int i = 0; i < kRows; ++i) {
      x[i] = load(a + i * s.a_row, a + i * s.a_row + kBinStride, 0);
    }
    for (int j = 0; j < kColumns; ++j) {
      const Complex y = load(b + j * s.b_column, b + j * s.b_column + kBinStride, 0);
      for (int i = 0; i < kRows; ++i) {
        Complex& z = sum[i][j];
        z.re = hn::MulAdd(x[i].re, y.re, z.re);
        z.im = hn::MulAdd(x[i].re, y.im, z.im);
        z.re = kConjugate ? hn::MulAdd(x[i].im, y.im, z.re) : hn::NegMulAdd(x[i].im, y.im, z.re);
        z.im = kConjugate ? hn::NegMulAdd(x[i].im, y.re, z.im) : hn::MulAdd(x[i].im, y.re, z.im);
      }
    }
    a += s.a_term;
    b += s.b_term;
  }
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kColumns; ++j) {
      store(sum[i][j], out[i][j], out[i][j] + kBinStride, 0);
    }
  }
}

template <bool kConjugate>
HWY_INLINE void product_bins(const cpu::SpectrumProduct& s, int64_t first, int64_t last) {
  for (int64_t row = 0; row < s.rows; row += 2) {
    for (int64_t column = 0; column < s.columns; column += 4) {
      const bool whole = row + 2 <= s.rows && column + 4 <= s.columns;
      for (int64_t bin = first; bin < last; bin += kVector) {
        if (whole) {
          product_tile<2, 4, kConjugate>(s, row, column, bin);
          continue;
        }
        for (int64_t i = row; i < std::min(row + 2, s.rows); ++i) {
          for (int64_t j = column; j < std::min(column + 4, s.columns); ++j) {
            product_tile<1, 1, kConjugate>(s, i, j, bin);
          }
        }
      }
    }
  }
}

}  // namespace

void bss_multiply(const cpu::SpectrumProduct& s) {
  constexpr int64_t kAtOnce = 16;  // bins whose operands stay in the cache
  for (int64_t bin = s.first_bin; bin < s.last_bin; bin += kAtOnce) {
    const int64_t last = std::min(s.last_bin, bin + kAtOnce);
    if (s.conjugate) {
      product_bins<true>(s, bin, last);
    } else {
      product_bins<false>(s, bin, last);
    }
  }
}

}  // namespace stemfabric::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stemfabric {
HWY_EXPORT(bss_forward_float);
HWY_EXPORT(bss_forward_double);
HWY_EXPORT(bss_inverse);
HWY_EXPORT(bss_multiply);
}  // namespace stemfabric

namespace stemfabric::cpu {

FftTables::FftTables() {
  const auto set = [](int64_t k, int64_t n, double& re, double& im) {
    const double angle = -2 * std::numbers::pi * static_cast<double>(k) / static_cast<double>(n);
    re = std::cos(angle);
    im = std::sin(angle);
  };
  double* w = steps;
  for (int64_t n = 256; n > 4; n /= 4) {
    for (int64_t p = 0; p < n / 4; ++p) {
      for (int64_t power = 1; power <= 3; ++power, w += 2) {
        set(power * p, n, w[0], w[1]);
      }
    }
  }
  for (int64_t r = 0; r < 8; ++r) {
    for (int64_t k = 0; k < kSub; ++k) {
      set(r * k, kComplexSize, join_re[r][k], join_im[r][k]);
    }
  }
  for (int64_t k = 0; k < kComplexSize / 2; ++k) {
    set(k + 1, kFftSize, real_re[k], real_im[k]);
  }
}

const FftTables& fft_tables() {
  static const auto tables = std::make_unique<FftTables>();
  return *tables;
}

void forward_fft(const float* x, int64_t n, double* spectrum, double* scratch) {
  HWY_DYNAMIC_DISPATCH(bss_forward_float)(x, n, spectrum, scratch);
}
void forward_fft(const double* x, int64_t n, double* spectrum, double* scratch) {
  HWY_DYNAMIC_DISPATCH(bss_forward_double)(x, n, spectrum, scratch);
}
void inverse_fft(const double* spectrum, double* x, double* scratch) {
  HWY_DYNAMIC_DISPATCH(bss_inverse)(spectrum, x, scratch);
}
void multiply_spectra(const SpectrumProduct& product) {
  HWY_DYNAMIC_DISPATCH(bss_multiply)(product);
}

}  // namespace stemfabric::cpu
#endif  // HWY_ONCE
