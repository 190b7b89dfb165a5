#include "trainer/training/target_units.h"

#include <fmt/core.h>

#include <algorithm>

namespace stemfabric {
namespace {

void multiply_heads(const ParameterTable& table, const std::array<float, kStemCount>& factors,
                    float* block) {
  for (std::size_t s = 0; s < kStemCount; ++s) {
    if (factors[s] == 1.0F) {
      continue;
    }
    for (const char* part : {"kernel", "bias"}) {
      const TensorView values = ParameterTable::view(
          table.find(fmt::format("heads.{}.out.{}", kStemNames[s], part)), block);
      const int64_t columns = values.dim(-1);
      const int64_t stride = values.rank() == 2 ? values.stride(0) : columns;
      for (int64_t i = 0; i < values.elements(); ++i) {
        values.as<float>()[i / columns * stride + i % columns] *= factors[s];
      }
    }
  }
}

}  // namespace

std::array<float, kStemCount> TargetUnits::to_training() const {
  std::array<float, kStemCount> factors{};
  std::ranges::transform(scale_, factors.begin(), [](float scale) { return 1.0F / scale; });
  return factors;
}

void TargetUnits::enter(const ParameterTable& table, float* block) const {
  multiply_heads(table, to_training(), block);
}

std::vector<float> TargetUnits::leave(const ParameterTable& table, const float* block) const {
  std::vector<float> copy(block, block + table.block_elements());
  multiply_heads(table, scale_, copy.data());
  return copy;
}

}  // namespace stemfabric
