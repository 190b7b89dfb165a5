// BSS-Eval v4 from the definitions in kernels/bss_eval/bss_eval.h, in float64: filters by a QR
// decomposition of the matrix whose columns are the delayed references, convolutions as sums.
#pragma once

#include <cstdint>
#include <vector>

namespace stemfabric::test {

struct BssInput {
  int64_t sources, channels, samples, taps;
  std::vector<double> references, estimates;  // [S, C, N]
  std::vector<double> signal(const std::vector<double>& all, int64_t source, int64_t channel) const;
};

// SDR, ISR, SIR, SAR, source SDR of every source in samples [begin, end), with filters of the whole
// signals: [5, S]. No rule about silence. Columns that depend on earlier ones get no weight.
std::vector<double> bss_oracle(const BssInput& in, int64_t begin, int64_t end);

}  // namespace stemfabric::test
