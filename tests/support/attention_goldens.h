// The stored attention cases of tests/data/attention: inputs, float64 outputs and gradients of all
// activations, made by another implementation. tests/data/attention/README.md describes the files.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/oracles/attention_oracle.h"

namespace stemfabric::test {

struct AttentionGolden {
  std::string name;          // "t33_d32_rand.superposition"
  AttentionProblem problem;  // keep bits as stored
  DropoutConfig dropout;     // p = 0: none
  AttentionResult<double> expected;
  std::vector<double> lse, z2;  // [B, H, T]: ln Σ exp(score), Σ exp(A), over unmasked keys
};

// (case, activation) of every stored result; cheap.
std::vector<std::pair<std::string, std::string>> attention_golden_names();
AttentionGolden load_attention_golden(const std::string& name, const std::string& activation);

}  // namespace stemfabric::test
