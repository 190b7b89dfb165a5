// What this machine can do at most, measured in the same run as the kernels.
#pragma once

#include <string>

#include "runtime/device/execution_context.h"

namespace stemfabric::benchmarks {

struct MachinePeak {
  std::string simd;             // "AVX-512" as Highway names it
  double flops_per_second = 0;  // all threads of the context: independent multiply-adds
  double bytes_per_second = 0;  // all threads: a copy of far more than the caches hold
};

MachinePeak measure_machine_peak(const ExecutionContext& ctx);

}  // namespace stemfabric::benchmarks
