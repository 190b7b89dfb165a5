// The two places that the parity tests compare, and how far their float32 results may be apart.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "kernels/simt/executor.h"
#include "runtime/device/execution_context.h"
#include "tests/simt/device_memory.h"
#include "tests/simt/simt_stream.h"

namespace stemfabric::test {

inline ExecutionContext cpu_context() { return ExecutionContext({.threads = 1}); }

// Kernels on the SIMT executor; `memory` must outlive it.
inline ExecutionContext simt_device(SimtDeviceMemory& memory) {
  static SimtStagingMemory staging;
  return {std::make_unique<SimtStream>(), {.threads = 1, .resource = &memory, .staging = &staging}};
}

// One float32 computation on the CPU (`best`), the same one in another order of additions
// (`lowest`, the lowest SIMD level), and the device's. Each is off the exact result by rounding
// alone; the difference of the two CPU results shows how much that is for this very computation. So
// the device may be twice as far from `best` as `lowest` is, besides 4 roundings of the largest
// value.
inline void expect_parity(const std::string& what, const std::vector<double>& device,
                          const std::vector<double>& best, const std::vector<double>& lowest) {
  ASSERT_EQ(device.size(), best.size()) << what;
  ASSERT_EQ(lowest.size(), best.size()) << what;
  double largest = 0;
  double between = 0;
  double apart = 0;
  for (std::size_t i = 0; i < best.size(); ++i) {
    ASSERT_TRUE(std::isfinite(device[i])) << what << " element " << i;
    largest = std::max(largest, std::abs(best[i]));
    between = std::max(between, std::abs(lowest[i] - best[i]));
    apart = std::max(apart, std::abs(device[i] - best[i]));
  }
  const double bound = 2 * between + 4 * 0x1p-24 * largest;
  std::printf("[ BOUND    ] %s: %.1e of %.1e\n", what.c_str(), apart, bound);
  EXPECT_LE(apart, bound) << what << ": largest value " << largest << ", CPU's own difference "
                          << between;
}

}  // namespace stemfabric::test
