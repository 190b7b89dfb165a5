// Shapes and settings of attention, shared by its test and its benchmark.
#pragma once

#include <fmt/core.h>

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/attention/attention.h"

namespace stemfabric::test {

enum class MaskKind : uint8_t { kNone, kPadded, kScattered };

struct AttentionCase {
  std::string name;
  AttentionActivation activation;
  int64_t batch, tokens, heads, dim;
  MaskKind mask = MaskKind::kNone;
  float dropout = 0.0f;
  bool strided = false;  // tensors with gaps between rows and axes in another order

  // Operations of the fewest products without T x T memory, not of an implementation's: 2 forward,
  // 5 backward, of which one is the scores again.
  double forward_flops() const { return 2.0 * product_flops(); }
  double backward_flops() const { return 5.0 * product_flops(); }

 private:
  double product_flops() const {
    return 2.0 * static_cast<double>(batch * heads * dim) * static_cast<double>(tokens) *
           static_cast<double>(tokens);
  }
};

inline const char* activation_name(AttentionActivation activation) {
  switch (activation) {
    case AttentionActivation::kSoftmax:
      return "softmax";
    case AttentionActivation::kSuperposition:
      return "superposition";
    case AttentionActivation::kSuperpositionCentered:
      return "centered";
    case AttentionActivation::kSuperpositionNormalized:
      return "normalized";
  }
  return "unknown";
}

inline constexpr AttentionActivation kAllActivations[] = {
    AttentionActivation::kSoftmax, AttentionActivation::kSuperposition,
    AttentionActivation::kSuperpositionCentered, AttentionActivation::kSuperpositionNormalized};

struct AttentionSize {
  int64_t batch, tokens, heads, dim;
  MaskKind mask;
  float dropout;
  bool strided;
};

// Each size with every activation.
inline std::vector<AttentionCase> attention_cases(const std::vector<AttentionSize>& sizes) {
  std::vector<AttentionCase> cases;
  for (const AttentionSize& s : sizes) {
    for (AttentionActivation a : kAllActivations) {
      cases.push_back({fmt::format("t{}_d{}_{}", s.tokens, s.dim, activation_name(a)), a, s.batch,
                       s.tokens, s.heads, s.dim, s.mask, s.dropout, s.strided});
    }
  }
  return cases;
}

// Sizes around the edges of vectors, panels, tiles and strips.
inline std::vector<AttentionCase> attention_test_cases() {
  return attention_cases({
      {1, 1, 1, 1, MaskKind::kNone, 0.0f, false},
      {3, 2, 2, 5, MaskKind::kNone, 0.0f, false},
      {2, 25, 3, 32, MaskKind::kPadded, 0.0f, true},
      {1, 31, 2, 8, MaskKind::kScattered, 0.0f, false},
      {1, 32, 1, 16, MaskKind::kNone, 0.3f, false},
      {2, 33, 1, 33, MaskKind::kPadded, 0.0f, true},
      {1, 63, 1, 32, MaskKind::kNone, 0.0f, false},
      {1, 64, 2, 64, MaskKind::kScattered, 0.1f, false},
      {1, 65, 1, 32, MaskKind::kNone, 0.0f, true},
      {1, 127, 1, 16, MaskKind::kPadded, 0.0f, false},
      {1, 128, 1, 128, MaskKind::kNone, 0.0f, false},
      {2, 129, 1, 32, MaskKind::kScattered, 0.2f, true},
      {1, 600, 1, 24, MaskKind::kNone, 0.0f, false},
      {1, 300, 1, 128, MaskKind::kPadded, 0.0f, false},  // several key blocks in the backward
  });
}

// Around the edges of the tensor-core kernels' fragments and tiles, every head dimension that they
// are compiled for, each with and without dropout.
inline std::vector<AttentionCase> attention_bf16_test_cases() {
  return attention_cases({
      {1, 1, 1, 1, MaskKind::kNone, 0.0f, false},
      {3, 2, 2, 5, MaskKind::kNone, 0.0f, false},
      {2, 25, 3, 32, MaskKind::kPadded, 0.0f, true},
      {1, 31, 2, 8, MaskKind::kScattered, 0.0f, false},
      {1, 32, 1, 16, MaskKind::kNone, 0.3f, false},
      {2, 33, 1, 33, MaskKind::kPadded, 0.0f, true},
      {1, 63, 1, 32, MaskKind::kNone, 0.0f, false},
      {1, 64, 2, 64, MaskKind::kScattered, 0.1f, false},
      {1, 65, 1, 32, MaskKind::kNone, 0.0f, true},
      {1, 80, 1, 128, MaskKind::kScattered, 0.1f, false},
      {1, 97, 1, 100, MaskKind::kNone, 0.0f, false},
      {1, 127, 1, 24, MaskKind::kPadded, 0.0f, false},
      {2, 129, 1, 32, MaskKind::kScattered, 0.2f, true},
  });
}

// One layer of the default model.
inline AttentionCase model_attention_case(AttentionActivation a, int64_t batch, int64_t tokens,
                                          int64_t dim, float dropout = 0.0f) {
  return {fmt::format("{}/B{}_T{}_D{}{}", activation_name(a), batch, tokens, dim,
                      dropout > 0 ? "_dropout" : ""),
          a,
          batch,
          tokens,
          8,
          dim,
          MaskKind::kNone,
          dropout};
}

// Fewer samples the longer they are; snapshots (T = 25).
inline std::vector<AttentionCase> attention_benchmark_cases() {
  std::vector<AttentionCase> cases;
  for (AttentionActivation a : kAllActivations) {
    cases.push_back(model_attention_case(a, 8, 256, 32));
  }
  const auto centered = AttentionActivation::kSuperpositionCentered;
  cases.push_back(model_attention_case(centered, 64, 25, 32));
  cases.push_back(model_attention_case(centered, 32, 64, 32));
  cases.push_back(model_attention_case(centered, 1, 1024, 32));
  cases.push_back(model_attention_case(centered, 1, 4096, 32));
  cases.push_back(model_attention_case(centered, 8, 256, 64));
  cases.push_back(model_attention_case(centered, 8, 256, 32, 0.1f));
  return cases;
}
// Sizes that fill a GPU.
inline std::vector<AttentionCase> attention_gpu_benchmark_cases() {
  std::vector<AttentionCase> cases;
  for (AttentionActivation a : kAllActivations) {
    cases.push_back(model_attention_case(a, 32, 512, 32));
  }
  const auto centered = AttentionActivation::kSuperpositionCentered;
  cases.push_back(model_attention_case(centered, 8, 1024, 32));
  cases.push_back(model_attention_case(centered, 8, 1024, 64));
  cases.push_back(model_attention_case(AttentionActivation::kSoftmax, 8, 1024, 64));
  // A T x T matrix of this is 34 GB in float32.
  cases.push_back(model_attention_case(centered, 4, 16384, 32));
  return cases;
}

}  // namespace stemfabric::test
