// The real FFT of kBssFft samples in float64 for bss_eval's kernels: one transform per block of
// kBssFftThreads threads, as a complex one of half as many points (even and odd samples are real
// and imaginary parts), so that no signal's values get into another's. Four steps of the Stockham
// algorithm, 8 · 8 · 8 · 4 points, that meet in shared memory.
//
// A spectrum is kBssBins numbers. Shared memory has a gap of one point after each 8, so that the 8
// outputs of the first step's threads do not meet in one bank.
#pragma once

#include "kernels/common/launch.cuh"

namespace stemfabric::cuda {

inline constexpr int kBssFft = 4096;
inline constexpr int kBssPoints = kBssFft / 2;
inline constexpr int kBssBins = kBssPoints + 1;
inline constexpr int kBssFftThreads = 256;
inline constexpr int kBssRadix = 8;

struct alignas(16) BssComplex {
  double re, im;
};
__device__ __forceinline__ BssComplex operator+(BssComplex a, BssComplex b) {
  return {a.re + b.re, a.im + b.im};
}
__device__ __forceinline__ BssComplex operator-(BssComplex a, BssComplex b) {
  return {a.re - b.re, a.im - b.im};
}
__device__ __forceinline__ BssComplex operator*(BssComplex a, BssComplex b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

__host__ __device__ constexpr int bss_place(int point) { return point + point / kBssRadix; }

struct BssFftStorage {
  BssComplex points[bss_place(kBssPoints)];
};

__device__ __forceinline__ void bss_dft4(BssComplex& a, BssComplex& b, BssComplex& c,
                                         BssComplex& d) {
  const BssComplex ac = a + c;
  const BssComplex a_c = a - c;
  const BssComplex bd = b + d;
  const BssComplex b_d = b - d;
  a = ac + bd;
  b = {a_c.re + b_d.im, a_c.im - b_d.re};  // a − ib − c + id
  c = ac - bd;
  d = {a_c.re - b_d.im, a_c.im + b_d.re};  // a + ib − c − id
}

// In place and in order.
__device__ __forceinline__ void bss_dft8(BssComplex (&v)[kBssRadix]) {
  constexpr double kRoot = 0.70710678118654752440;
  bss_dft4(v[0], v[2], v[4], v[6]);
  bss_dft4(v[1], v[3], v[5], v[7]);
  const BssComplex even[4] = {v[0], v[2], v[4], v[6]};
  const BssComplex odd[4] = {v[1],
                             {kRoot * (v[3].re + v[3].im), kRoot * (v[3].im - v[3].re)},
                             {v[5].im, -v[5].re},
                             {kRoot * (v[7].im - v[7].re), -kRoot * (v[7].re + v[7].im)}};
  SF_UNROLL
  for (int k = 0; k < 4; ++k) {
    v[k] = even[k] + odd[k];
    v[k + 4] = even[k] - odd[k];
  }
}

// One of the first three steps: kS interleaved transforms. roots: exp(−2πi·k/kBssFft).
template <int kS>
__device__ __forceinline__ void bss_fft_step(BssComplex* points, const BssComplex* roots) {
  const int i = static_cast<int>(threadIdx.x);
  BssComplex v[kBssRadix];
  SF_UNROLL
  for (int r = 0; r < kBssRadix; ++r) {
    v[r] = points[bss_place(i + r * kBssFftThreads)];
  }
  __syncthreads();
  bss_dft8(v);
  const int turn = i / kS * kS;
  const int to = i % kS + turn * kBssRadix;
  points[bss_place(to)] = v[0];
  SF_UNROLL
  for (int u = 1; u < kBssRadix; ++u) {
    points[bss_place(to + u * kS)] = v[u] * roots[2 * u * turn];
  }
  __syncthreads();
}

// The transform of `points` in their place. All threads of the block call it, each when the points
// threadIdx.x, threadIdx.x + kBssFftThreads, … are there for it to read.
__device__ __forceinline__ void bss_fft(BssComplex* points, const BssComplex* roots) {
  static_assert(kBssPoints == 8 * 8 * 8 * 4 && kBssFftThreads * kBssRadix == kBssPoints);
  bss_fft_step<1>(points, roots);
  bss_fft_step<8>(points, roots);
  bss_fft_step<64>(points, roots);
  constexpr int kLast = kBssPoints / 4;  // reads and writes the same places
  for (int i = static_cast<int>(threadIdx.x); i < kLast; i += kBssFftThreads) {
    bss_dft4(points[bss_place(i)], points[bss_place(i + kLast)], points[bss_place(i + 2 * kLast)],
             points[bss_place(i + 3 * kLast)]);
  }
  __syncthreads();
}

// spectrum[k] = Σ_t sample(t) e^{−2πi kt/kBssFft}
template <typename Sample>
__device__ __forceinline__ void bss_forward(BssComplex* points, const BssComplex* roots,
                                            const Sample& sample, BssComplex* spectrum) {
  for (int i = static_cast<int>(threadIdx.x); i < kBssPoints; i += kBssFftThreads) {
    points[bss_place(i)] = {sample(2 * i), sample(2 * i + 1)};
  }
  bss_fft(points, roots);
  // X[k] = E + w^k O and X[M−k] = conj(E − w^k O), with E and O the transforms of the even and odd
  // samples: E = (Z[k] + conj Z[M−k]) / 2, i O = (Z[k] − conj Z[M−k]) / 2.
  for (int k = 1 + static_cast<int>(threadIdx.x); k <= kBssPoints / 2; k += kBssFftThreads) {
    const BssComplex a = points[bss_place(k)];
    const BssComplex b = points[bss_place(kBssPoints - k)];
    const BssComplex e = {0.5 * (a.re + b.re), 0.5 * (a.im - b.im)};
    const BssComplex o = {0.5 * (a.im + b.im), 0.5 * (b.re - a.re)};
    const BssComplex wo = o * roots[k];
    spectrum[k] = e + wo;
    spectrum[kBssPoints - k] = {e.re - wo.re, wo.im - e.im};
  }
  if (threadIdx.x == 0) {
    const BssComplex first = points[0];
    spectrum[0] = {first.re + first.im, 0};
    spectrum[kBssPoints] = {first.re - first.im, 0};
  }
}

// The samples of the spectrum bin(k), kBssFft times too large; bss_even and bss_odd read them.
template <typename Bin>
__device__ __forceinline__ void bss_inverse(BssComplex* points, const BssComplex* roots,
                                            const Bin& bin) {
  // Real and imaginary parts change places: the transform of that is the inverse transform with its
  // parts in each other's place.
  for (int k = 1 + static_cast<int>(threadIdx.x); k <= kBssPoints / 2; k += kBssFftThreads) {
    const BssComplex a = bin(k);
    const BssComplex b = bin(kBssPoints - k);
    const BssComplex e = {a.re + b.re, a.im - b.im};
    const BssComplex wo = {a.re - b.re, a.im + b.im};
    const BssComplex o = wo * BssComplex{roots[k].re, -roots[k].im};
    points[bss_place(kBssPoints - k)] = {o.re - e.im, e.re + o.im};
    points[bss_place(k)] = {e.im + o.re, e.re - o.im};
  }
  if (threadIdx.x == 0) {
    const double first = bin(0).re;
    const double last = bin(kBssPoints).re;
    points[0] = {first - last, first + last};
  }
  __syncthreads();
  bss_fft(points, roots);
}
// Samples 2i and 2i + 1.
__device__ __forceinline__ double bss_even(const BssComplex* points, int i) {
  return points[bss_place(i)].im;
}
__device__ __forceinline__ double bss_odd(const BssComplex* points, int i) {
  return points[bss_place(i)].re;
}

}  // namespace stemfabric::cuda
