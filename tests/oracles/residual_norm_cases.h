// Shapes of residual + dropout + norm, shared by its test and its benchmark.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace stemfabric::test {

struct ResidualNormCase {
  std::string name;
  int64_t m, c;
  double dropout = 0;
  int64_t tokens = 1;  // per sample
  double offset = 0;   // added to the residual: a mean that is large beside the deviation
  bool with_x = true;
  bool with_dsum = true;
  bool large = false;  // once is enough where threads are emulated
  // Forward reads x and residual, writes sum and y; backward reads dy and sum, writes dresidual and
  // dx.
  int64_t bytes() const { return m * c * 4 * 4; }
};

inline std::vector<ResidualNormCase> residual_norm_test_cases() {
  return {
      {"m1_c1", 1, 1},
      {"m7_c3_p10", 7, 3, 0.1, 7},
      {"m7_c16", 7, 16, 0.0, 1, 0.0, false},
      {"m13_c60_p10", 13, 60, 0.1, 4},
      {"m9_c124", 9, 124},
      {"m1_c255_p50", 1, 255, 0.5},
      {"m7_c255_offset", 7, 255, 0.0, 1, 1000.0},
      {"m66_c256_p10", 66, 256, 0.1, 33, 0.0, true, false},
      {"m5_c500_p10", 5, 500, 0.1, 5},
      {"m7_c1024_p10", 7, 1024, 0.1, 3},
      {"m3_c1025_p10", 3, 1025, 0.1, 3},
      {"m5_c2100_p90", 5, 2100, 0.9, 5},
      {"m1040_c4_p10", 1040, 4, 0.1, 7},
      {"m2048_c16_p10", 2048, 16, 0.1, 256, 0.0, true, true, true},
      {"m2048_c256_p10", 2048, 256, 0.1, 256, 0.0, true, true, true},
      {"m1030_c260_p10", 1030, 260, 0.1, 100},
      {"m33000_c4_p10", 33000, 4, 0.1, 100, 0.0, true, true, true},
  };
}

inline std::vector<ResidualNormCase> residual_norm_benchmark_cases() {
  return {{"m2048_c256", 2048, 256},
          {"m2048_c256_p10", 2048, 256, 0.1, 256},
          {"m4096_c1024_p10", 4096, 1024, 0.1, 256}};
}
// Sizes past a GPU's caches.
inline std::vector<ResidualNormCase> residual_norm_gpu_benchmark_cases() {
  return {{"m16384_c256_p10", 16384, 256, 0.1, 512}, {"m65536_c256", 65536, 256}};
}

}  // namespace stemfabric::test
