// What a Fourier transform of n points needs and what does not change: twiddle factors and the
// periodic Hann window, formed in float64 and rounded once. Built at first use and kept; a table
// of 4096 points takes 64 KB.
//
// The transforms of this library (fft_simd-inl.h, fft_core.cuh) are Stockham's autosort algorithm,
// decimation in frequency: radix-4 steps, and one of radix 2 at the end where n is no power of 4.
// Source: Van Loan, "Computational Frameworks for the Fast Fourier Transform", 1992, section 1.7.
#pragma once

#include <cstdint>
#include <vector>

namespace stemfabric {

// Sizes that the CPU and the CUDA kernels transform: the powers of two in this range.
inline constexpr int64_t kMinFftSize = 512;
inline constexpr int64_t kMaxFftSize = 4096;
constexpr bool is_fft_size(int64_t n) {
  return n >= kMinFftSize && n <= kMaxFftSize && (n & (n - 1)) == 0;
}

struct FftTables {
  explicit FftTables(int points);

  int n;
  std::vector<float> window;  // [n]: sin²(πi/n)
  // Of each radix-4 step with a twiddle other than 1, the first step first: of a transform of n_s
  // points left, with w = exp(−2πi/n_s) and m = n_s/4, six rows of m: Re w^p, Im w^p, Re w^2p,
  // Im w^2p, Re w^3p, Im w^3p.
  std::vector<float> twiddles;
};

// n must be an FFT size: an InternalError otherwise.
const FftTables& fft_tables(int64_t n);

}  // namespace stemfabric
