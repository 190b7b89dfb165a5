// Where every intermediate result of one step lives: one arena, one entry per tensor with the steps
// between which it is needed (runtime/memory/arena.h places those that never meet over each other).
//
// Training keeps, per token and block, 14·dim + 4·heads floats (dim_ff = 4·dim) for the backward;
// inference keeps nothing beyond its next use. Everything is linear in batch × tokens.
//
// In bf16 the tensors that layers, norms and the attention function pass on are bf16. float32 stay
// u and the statistics that attention saves, the statistics of norms, and the model's outputs, but
// not their gradient. Training then keeps 30·dim + 16·heads bytes per token and block; on a GPU
// dim / 2 more for the masks of ReLUs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/memory/arena.h"
#include "trainer/config/config.h"

namespace stemfabric {

struct ActivationLimits {
  int64_t batch = 1;  // largest batch and sequence that will be run
  int64_t tokens = 1;
  bool training = false;          // plans memory for backward; inference shares much more
  DType precision = DType::kF32;  // or kBF16
  bool cudnn = false;             // AttentionConfig::cudnn
  bool relu_masks = false;        // plans memory for them (kernels/linear/linear.h); for GPUs
};

// One attention branch. [M, …] with M = batch · tokens rows.
struct AttentionActivations {
  ArenaPlan::Id qkv = -1;               // [M, 3·dim]
  ArenaPlan::Id context = -1;           // [M, dim] output of the attention function
  ArenaPlan::Id saved_o2 = -1;          // [M, dim] training, see kernels/attention/attention.h
  ArenaPlan::Id saved_u = -1;           // [M, dim] training, float32
  ArenaPlan::Id saved_stats = -1;       // [M, 4·heads] training, float32
  ArenaPlan::Id output = -1;            // [M, dim] after the output projection
  ArenaPlan::Id output_gradient = -1;   // [M, dim] with dropout only
  ArenaPlan::Id context_gradient = -1;  // [M, dim]
  ArenaPlan::Id qkv_gradient = -1;      // [M, 3·dim]
};

// One feed-forward branch.
struct FeedForwardActivations {
  ArenaPlan::Id hidden = -1;           // [M, dim_ff] after the ReLU
  ArenaPlan::Id relu_mask = -1;        // [M, relu_mask_bytes(dim_ff)] u8, training, if planned
  ArenaPlan::Id output = -1;           // [M, dim]
  ArenaPlan::Id output_gradient = -1;  // [M, dim] with dropout only
  ArenaPlan::Id hidden_gradient = -1;  // [M, dim_ff]
};

// Residual + dropout + layer norm after a branch (pre-norm: also one before the first).
struct NormActivations {
  ArenaPlan::Id sum = -1;   // [M, dim]
  ArenaPlan::Id y = -1;     // [M, dim]
  ArenaPlan::Id mean = -1;  // [M] training
  ArenaPlan::Id rstd = -1;  // [M] training
};

struct HeadActivations {
  ArenaPlan::Id hidden = -1;           // [M, 6·dim] after ReLU and quantum activation
  ArenaPlan::Id pre_activation = -1;   // [M, 6·dim] training
  ArenaPlan::Id output = -1;           // [6, M, out]
  ArenaPlan::Id output_gradient = -1;  // [6, M, out] of the precision
  ArenaPlan::Id hidden_gradient = -1;  // [M, 6·dim], of the pre-activation
};

// Of training.precision: "fp32" or "bf16".
DType precision_dtype(const std::string& precision);

struct ActivationPlan {
  ActivationPlan(const ModelConfig& config, const ActivationLimits& limits);

  ArenaPlan arena;
  ArenaPlan::Id mask = -1;   // [M] u8, a copy of the caller's
  ArenaPlan::Id input = -1;  // [M, input_dim] standardised
  ArenaPlan::Id embed = -1;  // [M, dim]
  std::vector<AttentionActivations> attention;
  std::vector<FeedForwardActivations> feed_forward;
  std::vector<NormActivations> norms;
  HeadActivations heads;
  ArenaPlan::Id stream_gradient = -1;  // [M, dim] of the residual stream, all through the backward
  ArenaPlan::Id normed_gradient = -1;  // [M, dim] pre-norm: of the normalised branch input
};

}  // namespace stemfabric
