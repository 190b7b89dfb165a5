// Superposition attention, forward and backward, in O(T) memory.
//
//   S = Q Kᵀ / √D,   A = softmax of S over unmasked keys,   P2 = softmax of A over unmasked keys
//   softmax                   G = A
//   superposition             G = α σ(A)      + β tanh(A) + γ P2      on unmasked keys, else 0
//   superposition_centered    G = α (2σ(A)−1) + β tanh(A) + γ P2      on unmasked keys, else 0
//   superposition_normalized  G = superposition's G / its row sum
//   O = (keep/(1−p) ∘ G) V        (dropout last; no dropout: O = G V)
// A row without any unmasked key has O = 0 and passes no gradient.
//
//   tensor      | shape        | dtype | written | note
//   q, k, v     | [B, T, H, D] | f32   |         | any strides, last stride 1
//   key_mask    | [B, T]       | u8    |         | optional; 1 = key may be attended to
//   o           | [B, T, H, D] | f32   | =       | any strides, last stride 1
//   o2, u       | [B, T, H, D] | f32   | =       | saved for backward; absent in inference
//   stats       | [B, H, T, 4] | f32   | =       | saved for backward: AttentionRowStats of each
//   row dq, dk, dv  | [B, T, H, D] | f32   | =       | any strides, last stride 1
// D: 1 … 128. A masked key is never read and gets dk = dv = 0. Scratch memory: O(T) per thread.
// Deterministic: the same bits for any number of threads.
// Source of the fused algorithms: docs/attention.md. Dropout bits: Philox as stated there,
// independent of tiling and of how a batch is cut.
#pragma once

#include "kernels/common/philox.h"
#include "runtime/core/tensor_view.h"
#include "runtime/device/execution_context.h"

namespace stemfabric {

enum class AttentionActivation : uint8_t {
  kSoftmax,
  kSuperposition,
  kSuperpositionCentered,
  kSuperpositionNormalized,
};

struct AttentionConfig {
  AttentionActivation activation = AttentionActivation::kSuperpositionCentered;
  float alpha = 0.3f;  // sigmoid
  float beta = 0.3f;   // tanh
  float gamma = 0.4f;  // inner softmax
};

struct AttentionForwardArgs {
  AttentionConfig config;
  ConstTensorView q, k, v;
  ConstTensorView key_mask;
  TensorView o;
  TensorView o2, u, stats;
  DropoutConfig dropout;
};
void attention_forward(const ExecutionContext& ctx, const AttentionForwardArgs& args);

struct AttentionBackwardArgs {
  AttentionConfig config;
  ConstTensorView q, k, v;
  ConstTensorView key_mask;
  ConstTensorView o, o2, u, stats;  // as the forward wrote them
  ConstTensorView d_o;              // [B, T, H, D], any strides, last stride 1
  TensorView dq, dk, dv;
  DropoutConfig dropout;  // the same as in the forward
};
void attention_backward(const ExecutionContext& ctx, const AttentionBackwardArgs& args);

}  // namespace stemfabric
