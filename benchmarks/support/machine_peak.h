// What this machine can do at most, measured in the same run as the kernels.
#pragma once

#include <string>

#include "runtime/device/execution_context.h"

namespace stemfabric::benchmarks {

struct MachinePeak {
  std::string what;             // how: "AVX-512 multiply-adds" as Highway names the level
  double flops_per_second = 0;  // all threads of the context: independent multiply-adds
  double bytes_per_second = 0;  // all threads: a copy of far more than the caches hold
  // The least time that a call with so many operations and bytes can take.
  double floor_seconds(double flops, double bytes) const;
};

// On a GPU: a large float32 product by its library, and a copy from device to device.
MachinePeak measure_machine_peak(const ExecutionContext& ctx);

}  // namespace stemfabric::benchmarks
