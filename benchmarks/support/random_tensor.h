// Inputs of benchmarks: aligned as in the product, the same values every time.
#pragma once

#include <algorithm>
#include <vector>

#include "runtime/memory/buffer.h"
#include "tests/support/op_harness.h"

namespace stemfabric::benchmarks {

inline Tensor random_tensor(const Shape& shape, uint64_t seed, double low = -1, double high = 1) {
  Tensor tensor(shape, DType::kF32);
  const std::vector<double> values = test::GuardedTensor::random(shape, seed, low, high).values();
  std::transform(values.begin(), values.end(), tensor.as<float>(),
                 [](double value) { return static_cast<float>(value); });
  return tensor;
}

inline std::vector<double> values_of(const Tensor& tensor) {
  if (tensor.dtype() == DType::kF64) {
    return {tensor.as<double>(), tensor.as<double>() + tensor.elements()};
  }
  return {tensor.as<float>(), tensor.as<float>() + tensor.elements()};
}

}  // namespace stemfabric::benchmarks
