// Runs a test body once for each way in which vectors make an op take another path: on the CPU,
// each SIMD level that was compiled in and that it has; on a device, whose kernels choose by
// address, with tensors that start one element after a 64-byte boundary and with tensors that start
// on one.
#pragma once

#include <functional>

namespace stemfabric::test {

// The name of the way ("AVX2", …) is added to every failure. Afterwards all is as before: the CPU's
// best level, misaligned tensors. Only tensors made inside the body are aligned.
void for_each_simd_level(const std::function<void()>& body);
// Tensors made in its life begin at a 64-byte boundary.
class AlignedTensors {
 public:
  AlignedTensors();
  ~AlignedTensors();
  AlignedTensors(const AlignedTensors&) = delete;
  AlignedTensors& operator=(const AlignedTensors&) = delete;
};
// Runs body with the CPU's ops on the lowest level: another float32 computation of the same values.
void at_lowest_simd_level(const std::function<void()>& body);

}  // namespace stemfabric::test
