// The filters of bss_eval's projections on the CPU, as spectra (spectrum_cpu.h) that hold the
// factor 1/kFftSize, which inverse_fft leaves out.
#pragma once

#include "kernels/bss_eval/bss_eval_cpu.h"

namespace stemfabric::cpu {

struct BssFilters {
  double* all;  // [q, p, kSpectrumSize]: estimate d from every reference
  double* own;  // [q, C, kSpectrumSize]: estimate d from the references of its source
};
// NaN where a signal that takes part is not finite.
void bss_projection_filters(const ExecutionContext& ctx, const BssSignals& signals,
                            const BssFilters& out);

}  // namespace stemfabric::cpu
