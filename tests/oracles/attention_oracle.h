// Superposition attention written from the formula of kernels/attention/attention.h, row by row
// with the whole row of weights at hand: softmax, sigmoid, tanh and inner softmax of libm, no
// polynomial, no rank-one part, no saved rows. T = double is the oracle, T = float the naive
// computation.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/attention/attention.h"

namespace stemfabric::test {

// Arrays of [B, T, H, D] in row-major order.
struct AttentionProblem {
  AttentionActivation activation = AttentionActivation::kSuperpositionCentered;
  double alpha = 0.3f, beta = 0.3f, gamma = 0.4f;  // as float32 holds them
  int64_t batch = 1, tokens = 1, heads = 1, dim = 1;
  std::vector<double> q, k, v, d_o;
  std::vector<uint8_t> key_mask;  // [B, T]; empty = all keys
  std::vector<uint8_t> keep;      // [B, H, T, T]; empty = no dropout
  double keep_scale = 1.0;        // 1 / (1 - p)
  // Query rows to compute; empty = all. Of the others o and dq stay 0, as if d_o were 0 there.
  std::vector<int64_t> rows;

  int64_t offset(int64_t b, int64_t t, int64_t h) const {
    return ((b * tokens + t) * heads + h) * dim;
  }
};

template <typename T>
struct AttentionResult {
  std::vector<T> o, dq, dk, dv;
};

template <typename T>
AttentionResult<T> attention_oracle(const AttentionProblem& problem);

// The naive computation in bfloat16: float32, with every T x T matrix kept as bfloat16 between one
// product and the next (A, dG, dS, and G but for its value at A = 0, which is added in full:
// rounding that would lose the rest), and the results rounded.
AttentionResult<float> attention_naive_bf16(const AttentionProblem& problem);

// Keep bits [B, H, T, T] by the definition of docs/attention.md, one element at a time.
std::vector<uint8_t> attention_keep_oracle(const DropoutConfig& dropout, int64_t batch,
                                           int64_t heads, int64_t tokens);

}  // namespace stemfabric::test
