// Rotary position embedding from its formula, in float64.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace stemfabric::test {

// x [B, T, H, D], row-major.
inline std::vector<double> rotary_oracle(const std::vector<double>& x, int64_t batch,
                                         int64_t tokens, int64_t heads, int64_t dim, double base,
                                         bool inverse) {
  std::vector<double> out = x;
  std::size_t row = 0;
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t h = 0; h < heads; ++h) {
        for (int64_t i = 0; i < dim / 2; ++i) {
          const double frequency =
              std::pow(base, static_cast<double>(-2 * i) / static_cast<double>(dim));
          const double angle = static_cast<double>(inverse ? -t : t) * frequency;
          double& low = out[row + static_cast<std::size_t>(i)];
          double& high = out[row + static_cast<std::size_t>(i + dim / 2)];
          const double turned = low * std::cos(angle) - high * std::sin(angle);
          high = low * std::sin(angle) + high * std::cos(angle);
          low = turned;
        }
        row += static_cast<std::size_t>(dim);
      }
    }
  }
  return out;
}

}  // namespace stemfabric::test
