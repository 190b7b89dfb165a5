// Tests of ops with bf16 tensors. Their bound is the usual one (tolerance.h): the naive computation
// is in float32, rounded to bf16 wherever the contract says that the op may round.
#pragma once

#include "tests/support/op_harness.h"

namespace stemfabric::test {

inline GuardedTensor random_bf16(const Shape& shape, uint64_t seed, double low = -1,
                                 double high = 1, const Layout& layout = {}) {
  return GuardedTensor::random(shape, seed, low, high, layout, DType::kBF16);
}

// For results in bf16: one rounding to 8 bits, and the usual two of float32 before it.
inline constexpr Floor kBf16Floor = {.ulps = 0x1p-9 / 0x1p-24 + 2};

}  // namespace stemfabric::test
