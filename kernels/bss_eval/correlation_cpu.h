// Correlations of the signals of bss_eval on the CPU, by FFT in float64, for lags 0 … taps−1 alone:
//   R_xy[l] = Σ_t x[t] y[t+l]
// Blocks of x are multiplied with the blocks of y that reach taps−1 samples further; their spectra
// are added up, and only the sums are transformed back.
#pragma once

#include "kernels/bss_eval/bss_eval_cpu.h"

namespace stemfabric::cpu {

// gram[k,k',l] of references k, k'; cross[k,d,l] of reference k and estimate d.
struct BssCorrelations {
  double* gram;   // [p, p, taps]
  double* cross;  // [p, q, taps]
};
void bss_correlate(const ExecutionContext& ctx, const BssSignals& signals,
                   const BssCorrelations& out);

}  // namespace stemfabric::cpu
