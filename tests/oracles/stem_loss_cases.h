// Shapes of the stem loss, shared by its test and its benchmark.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace stemfabric::test {

struct StemLossCase {
  std::string name;
  int64_t s, b, t, o;
  bool target_mask = true;
  bool key_mask = true;
  bool weight = true;
  bool strided = false;  // prediction, target, mask and gradient lie as [B, S, T, O] with gaps
  int64_t row_gap = 5;   // elements of a gap
  // Reads prediction, target and mask, writes the gradient.
  int64_t bytes() const { return s * b * t * o * (target_mask ? 13 : 12); }
};

inline std::vector<StemLossCase> stem_loss_test_cases() {
  return {
      {"one", 1, 1, 1, 1, false, false, false},
      {"o3", 2, 1, 7, 3},
      {"plain_o16", 6, 2, 5, 16, false, false, false},
      {"strided_o255", 6, 3, 5, 255, true, true, true, true},
      {"strided_o1", 3, 4, 6, 1, true, true, true, true},
      {"mask_o256", 6, 2, 9, 256, true, false, false},
      {"keys_o1024", 2, 3, 11, 1024, false, true, true},
      {"weight_o33", 6, 5, 2, 33, false, false, true, true},
      {"gaps_align_rows_o13", 3, 2, 5, 13, true, true, true, true, 3},
      {"gaps_align_rows_o29_plain", 3, 2, 5, 29, false, false, false, true, 3},
      {"long_rows", 1, 1, 3, 20001},
      {"m2048", 2, 8, 256, 17},
  };
}

inline std::vector<StemLossCase> stem_loss_benchmark_cases() {
  return {{"b8_t256_o256", 6, 8, 256, 256}, {"b8_t256_o256_plain", 6, 8, 256, 256, false, false}};
}
// Sizes past a GPU's caches.
inline std::vector<StemLossCase> stem_loss_gpu_benchmark_cases() {
  return {{"b32_t512_o256", 6, 32, 512, 256},
          {"b32_t512_o256_plain", 6, 32, 512, 256, false, false}};
}

}  // namespace stemfabric::test
