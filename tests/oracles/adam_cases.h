// Sizes and settings of the Adam step, shared by its test and its benchmark.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/adam/adam.h"

namespace stemfabric::test {

struct AdamCase {
  std::string name;
  int64_t n;
  AdamForm form = AdamForm::kTorch;
  double weight_decay = 0;
  bool decoupled = false;
  double grad_scale = 1;
  int64_t bytes() const { return n * 7 * 4; }  // reads w, g, m, v; writes w, m, v
};

inline std::vector<AdamCase> adam_test_cases() {
  return {
      {"torch_1", 1},
      {"torch_15", 15},
      {"keras_17", 17, AdamForm::kKeras},
      {"l2_255", 255, AdamForm::kTorch, 0.01},
      {"keras_l2_255", 255, AdamForm::kKeras, 0.01},
      {"adamw_256", 256, AdamForm::kTorch, 0.01, true},
      {"keras_adamw_1023", 1023, AdamForm::kKeras, 0.01, true},
      {"clipped_40001", 40001, AdamForm::kTorch, 0.0, false, 0.37},
      {"clipped_l2_40001", 40001, AdamForm::kTorch, 0.1, false, 0.37},
  };
}

inline std::vector<AdamCase> adam_benchmark_cases() {
  return {{"torch_64k", 1 << 16}, {"adamw_4M", 4 << 20, AdamForm::kTorch, 0.01, true}};
}
// Sizes past a GPU's caches.
inline std::vector<AdamCase> adam_gpu_benchmark_cases() {
  return {{"adamw_32M", 32 << 20, AdamForm::kTorch, 0.01, true}};
}

}  // namespace stemfabric::test
