// The parts of an encoder block: attention branch, feed-forward branch, and the residual + dropout
// + layer norm that follows a branch (pre-norm: one before the first branch as well). Each has a
// forward and a backward that run on the planned activations of a pass; separator.cpp strings them
// together.
//
// Backward functions add to the gradients of their parameters. `d_input` receives the gradient of
// the branch's input: added to what is there if `accumulate`, otherwise written.
#pragma once

#include <string>

#include "kernels/attention/attention.h"
#include "trainer/config/config.h"
#include "trainer/model/activation_plan.h"
#include "trainer/model/model_pass.h"

namespace stemfabric {

// The configuration's attention section as the kernel takes it. ConfigError on an unknown name.
AttentionConfig attention_config(const AttentionModelConfig& config);

class AttentionBranch {
 public:
  // cudnn: AttentionConfig::cudnn.
  AttentionBranch(const ModelConfig& config, const ParameterBlocks& blocks, int64_t block,
                  const AttentionActivations& activations, bool cudnn);

  TensorView forward(const ModelPass& pass, const ConstTensorView& input) const;
  void backward(const ModelPass& pass, const ConstTensorView& input,
                const ConstTensorView& d_output, const TensorView& d_input, bool accumulate) const;
  // The output of the last training forward again, into `output` [M, dim].
  void recompute_output(const ModelPass& pass, const TensorView& output) const;

 private:
  void rotate(const ModelPass& pass, const TensorView& qkv, bool inverse) const;
  // q, k or v (part 0, 1, 2) of a [M, 3·dim] matrix, or a [M, dim] matrix (part 0), by heads.
  TensorView heads(const ModelPass& pass, const TensorView& matrix, int part) const;
  DropoutConfig weight_dropout(const ModelPass& pass) const;

  int64_t block_;
  int64_t dim_;
  int64_t heads_;
  bool rotary_;
  double rotary_base_;
  double weight_dropout_;
  AttentionConfig attention_;
  AttentionActivations activations_;
  DenseParameters qkv_, output_;
};

class FeedForwardBranch {
 public:
  FeedForwardBranch(const ModelConfig& config, const ParameterBlocks& blocks, int64_t block,
                    const FeedForwardActivations& activations);

  TensorView forward(const ModelPass& pass, const ConstTensorView& input) const;
  void backward(const ModelPass& pass, const ConstTensorView& input,
                const ConstTensorView& d_output, const TensorView& d_input, bool accumulate) const;
  void recompute_output(const ModelPass& pass, const TensorView& output) const;

 private:
  // The memory of this pass's ReLU mask; absent if none was planned.
  TensorView relu_mask(const ModelPass& pass) const;

  int64_t dim_;
  int64_t dim_ff_;
  FeedForwardActivations activations_;
  mutable bool relu_mask_written_ = false;  // by the last forward
  DenseParameters expand_, contract_;
};

class ResidualNorm {
 public:
  // Dropout `p` of the branch before it.
  ResidualNorm(const ModelConfig& config, const NormParameters& parameters, double p, int64_t block,
               RandomPurpose purpose, const NormActivations& activations);

  TensorView sum(const ModelPass& pass) const { return pass.matrix(activations_.sum, dim_); }
  TensorView y(const ModelPass& pass) const { return pass.matrix(activations_.y, dim_); }

  // branch may be absent.
  void forward(const ModelPass& pass, const ConstTensorView& branch,
               const ConstTensorView& residual) const;
  // d_sum: gradient of the sum from elsewhere, may be absent. d_residual may be d_y or d_sum.
  // Returns the gradient of the branch: in d_branch if dropout needs it, else d_residual itself.
  ConstTensorView backward(const ModelPass& pass, const ConstTensorView& d_y,
                           const ConstTensorView& d_sum, const TensorView& d_residual,
                           ArenaPlan::Id d_branch) const;

 private:
  int64_t dim_;
  float epsilon_;
  double p_;
  int64_t block_;
  RandomPurpose purpose_;
  NormActivations activations_;
  NormParameters parameters_;
};

}  // namespace stemfabric
