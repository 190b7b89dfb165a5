// What this machine can do at most, measured in the same run as the kernels.
#pragma once

#include <string>

#include "runtime/core/dtype.h"
#include "runtime/device/execution_context.h"

namespace stemfabric::benchmarks {

struct MachinePeak {
  std::string what;             // how: "AVX-512 multiply-adds" as Highway names the level
  double flops_per_second = 0;  // all threads of the context: independent multiply-adds
  double bytes_per_second = 0;  // all threads: a copy of far more than the caches hold
  std::string what_bf16;
  double bf16_flops_per_second = 0;  // of products of bf16 factors; 0: not measured
  // The least time that a call with so many operations on factors of a type, and so many bytes, can
  // take. Operations whose peak was not measured do not count.
  double floor_seconds(DType factors, double flops, double bytes) const;
};

// On a GPU: large float32 and bf16 products by its library, and a copy from device to device.
MachinePeak measure_machine_peak(const ExecutionContext& ctx);

}  // namespace stemfabric::benchmarks
