// Tests of ops with bf16 tensors. Their bound is the usual one (tolerance.h): the naive computation
// is in float32, rounded to bf16 wherever the contract says that the op may round.
#pragma once

#include <cmath>
#include <span>
#include <vector>

#include "tests/support/op_harness.h"

namespace stemfabric::test {

inline GuardedTensor random_bf16(const Shape& shape, uint64_t seed, double low = -1,
                                 double high = 1, const Layout& layout = {}) {
  return GuardedTensor::random(shape, seed, low, high, layout, DType::kBF16);
}

// For results in bf16: one rounding to 8 bits, and the usual two of float32 before it.
inline constexpr Floor kBf16Floor = {.ulps = 0x1p-9 / 0x1p-24 + 2};

// On its way through a bf16 model of `depth` blocks a value is rounded, relative error 2^-9 at
// most, so often: in a feed-forward branch two kernels, what their products write, the sum and its
// norm (6); in an attention branch these, the turned queries and keys, the weights and the context
// (9); and input, two kernels, embedding, hidden layer and its kernel (6). If all those errors had
// the same sign and the size of the largest, they would add up to this; independent ones stay far
// below, which leaves room for the layers that make some errors larger.
inline double bf16_forward_bound(int64_t depth) {
  return static_cast<double>(15 * depth + 6) * 0x1p-9;
}
// The backward goes the way once more, and a parameter's gradient is a product of both ways'
// values.
inline double bf16_gradient_bound(int64_t depth) { return 3 * bf16_forward_bound(depth); }

// How it is measured: root mean squares.
inline double rms(std::span<const double> values) {
  double sum = 0;
  for (const double v : values) {
    sum += v * v;
  }
  return std::sqrt(sum / static_cast<double>(values.size()));
}
inline double rms_distance(std::vector<double> a, std::span<const double> b) {
  for (std::size_t i = 0; i < a.size(); ++i) {
    a[i] -= b[i];
  }
  return rms(a);
}

}  // namespace stemfabric::test
