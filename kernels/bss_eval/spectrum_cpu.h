// Spectra of blocks of samples for bss_eval on the CPU: a real FFT of one fixed length in float64,
// and sums of products of spectra. Blocks shorter than kFftSize are padded with zeros.
//
// A spectrum is kSpectrumSize doubles: kBinStride real parts, then as many imaginary parts; bins
// kFftSize/2+1 and up are padding and hold zeros.
#pragma once

#include <cstdint>

namespace stemfabric::cpu {

inline constexpr int64_t kFftSize = 4096;
inline constexpr int64_t kBinStride = kFftSize / 2 + 8;
inline constexpr int64_t kSpectrumSize = 2 * kBinStride;
inline constexpr int64_t kFftScratch = 2 * kFftSize;  // doubles, for one thread

// X[k] = Σ_{t<n} x[t] e^{−2πi kt/kFftSize}
void forward_fft(const float* x, int64_t n, double* spectrum, double* scratch);
void forward_fft(const double* x, int64_t n, double* spectrum, double* scratch);
// x[t] for t < kFftSize, kFftSize times too large.
void inverse_fft(const double* spectrum, double* x, double* scratch);

// out[i,j] (+)= Σ_t a[i,t] · b[t,j], each element a spectrum and each product bin by bin; with
// `conjugate`, of conj(a). Strides in doubles. Bins [first_bin, last_bin), multiples of 8.
struct SpectrumProduct {
  int64_t rows, columns, terms;
  const double* a;
  int64_t a_row, a_term;
  const double* b;
  int64_t b_term, b_column;
  double* out;
  int64_t out_row, out_column;
  bool conjugate = false;
  bool accumulate = false;
  int64_t first_bin = 0;
  int64_t last_bin = kBinStride;
};
void multiply_spectra(const SpectrumProduct& product);

}  // namespace stemfabric::cpu
