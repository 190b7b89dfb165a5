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
//   tensor      | shape        | dtype    | written | note
//   q, k, v     | [B, T, H, D] | X        |         | any strides, last stride 1
//   key_mask    | [B, T]       | u8       |         | optional; 1 = key may be attended to
//   o           | [B, T, H, D] | X        | =       | any strides, last stride 1
//   o2          | [B, T, H, D] | X        | =       | saved for backward; absent in inference
//   u           | [B, T, H, D] | f32      | =       | saved for backward, always f32
//   stats       | [B, H, T, 4] | f32      | =       | saved for backward: AttentionRowStats
//   d_o         | [B, T, H, D] | X        |         | any strides, last stride 1
//   dq, dk, dv  | [B, T, H, D] | X        | =       | any strides, last stride 1
// X: f32 or bf16, the same for all of a call. D: 1 … 128. A masked key is never read (but see
// AttentionConfig::cudnn) and gets dk = dv = 0. Deterministic: the same bits for any number of
// threads and on every run. Scratch memory: O(T) per thread or head (but see there).
//
// bf16: sums, statistics and u are float32. On CUDA the products run on the tensor cores and the
// operands that meet there are rounded to bf16, never G itself (docs/attention.md, "bf16"). Fastest
// where every tensor starts at a multiple of 16 bytes and its strides and D are multiples of 8. On
// the CPU: inputs widened, computed as f32, results rounded; 4 bytes of scratch memory per element
// of the tensors.
// Source of the fused algorithms: docs/attention.md. Dropout bits: Philox as stated there,
// independent of tiling, of how a batch is cut and of X.
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
  // Softmax of bf16 tensors on CUDA without dropout by cuDNN, where it is installed and takes the
  // sizes and strides; otherwise by our kernels. To be the same in forward and backward, as are
  // then the views of q, k, v, o and stats. What the forward saves is then cuDNN's own, masked keys
  // are read (they must be finite), and scratch memory may be O(T²), kMostCudnnScratch at most
  // (attention_cudnn.h).
  bool cudnn = false;
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
