#include "trainer/model/encoder_block.h"

#include <utility>

#include "kernels/linear/linear.h"
#include "kernels/residual_norm/residual_norm.h"
#include "kernels/rotary/rotary.h"
#include "runtime/profile/trace.h"

namespace stemfabric {

AttentionConfig attention_config(const AttentionModelConfig& config) {
  static constexpr std::pair<std::string_view, AttentionActivation> kNames[] = {
      {"softmax", AttentionActivation::kSoftmax},
      {"superposition", AttentionActivation::kSuperposition},
      {"superposition_centered", AttentionActivation::kSuperpositionCentered},
      {"superposition_normalized", AttentionActivation::kSuperpositionNormalized},
  };
  for (const auto& [name, activation] : kNames) {
    if (config.activation == name) {
      return {.activation = activation,
              .alpha = static_cast<float>(config.alpha),
              .beta = static_cast<float>(config.beta),
              .gamma = static_cast<float>(config.gamma)};
    }
  }
  throw ConfigError(
      "model.attention.activation: '{}' is none of 'softmax', 'superposition', "
      "'superposition_centered', 'superposition_normalized'",
      config.activation);
}

AttentionBranch::AttentionBranch(const ModelConfig& config, const ParameterBlocks& blocks,
                                 int64_t block, const AttentionActivations& activations, bool cudnn)
    : block_(block),
      dim_(config.dim),
      heads_(config.heads),
      rotary_(config.positions == "rotary"),
      rotary_base_(config.rotary_base),
      weight_dropout_(config.attention.dropout),
      attention_(attention_config(config.attention)),
      activations_(activations),
      qkv_(fused_dense_parameters(blocks, fmt::format("blocks.{}.attn.qkv", block))),
      output_(dense_parameters(blocks, fmt::format("blocks.{}.attn.o", block))) {
  attention_.cudnn = cudnn;
}

TensorView AttentionBranch::heads(const ModelPass& pass, const TensorView& matrix, int part) const {
  const int64_t row = matrix.stride(0);
  const int64_t head_dim = dim_ / heads_;
  return {matrix.slice(1, part * dim_, dim_).data(),
          matrix.dtype(),
          Shape{pass.batch, pass.tokens, heads_, head_dim},
          {pass.tokens * row, row, head_dim, 1}};
}

DropoutConfig AttentionBranch::weight_dropout(const ModelPass& pass) const {
  return pass.dropout(weight_dropout_, block_, RandomPurpose::kAttentionWeightDropout);
}

void AttentionBranch::rotate(const ModelPass& pass, const TensorView& qkv, bool inverse) const {
  const TraceScope scope("rotary");
  for (const int part : {0, 1}) {
    rotary(pass.ctx, {.x = heads(pass, qkv, part), .base = rotary_base_, .inverse = inverse});
  }
}

TensorView AttentionBranch::forward(const ModelPass& pass, const ConstTensorView& input) const {
  const TensorView qkv = pass.matrix(activations_.qkv, 3 * dim_);
  {
    const TraceScope scope("attention qkv product");
    linear_forward(pass.ctx, {.x = input, .kernel = qkv_.kernel, .bias = qkv_.bias, .y = qkv});
  }
  if (rotary_) {
    rotate(pass, qkv, false);
  }
  const TensorView context = pass.matrix(activations_.context, dim_);
  AttentionForwardArgs args{.config = attention_,
                            .q = heads(pass, qkv, 0),
                            .k = heads(pass, qkv, 1),
                            .v = heads(pass, qkv, 2),
                            .key_mask = pass.mask,
                            .o = heads(pass, context, 0),
                            .dropout = weight_dropout(pass)};
  if (pass.training) {
    args.o2 = heads(pass, pass.matrix(activations_.saved_o2, dim_), 0);
    args.u = heads(pass, pass.matrix(activations_.saved_u, dim_), 0);
    args.stats = {pass.arena.view(activations_.saved_stats).data(), DType::kF32,
                  Shape{pass.batch, heads_, pass.tokens, 4}};
  }
  {
    const TraceScope scope("attention function");
    attention_forward(pass.ctx, args);
  }
  const TensorView output = pass.matrix(activations_.output, dim_);
  recompute_output(pass, output);
  return output;
}

void AttentionBranch::recompute_output(const ModelPass& pass, const TensorView& output) const {
  const TraceScope scope("attention output product");
  linear_forward(pass.ctx, {.x = pass.matrix(activations_.context, dim_),
                            .kernel = output_.kernel,
                            .bias = output_.bias,
                            .y = output});
}

void AttentionBranch::backward(const ModelPass& pass, const ConstTensorView& input,
                               const ConstTensorView& d_output, const TensorView& d_input,
                               bool accumulate) const {
  const TensorView context = pass.matrix(activations_.context, dim_);
  const TensorView d_context = pass.matrix(activations_.context_gradient, dim_);
  {
    const TraceScope scope("attention output product backward");
    linear_backward_kernel(
        pass.ctx,
        {.x = context, .dy = d_output, .dkernel = output_.kernel_grad, .dbias = output_.bias_grad});
    linear_backward_input(pass.ctx, {.dy = d_output, .kernel = output_.kernel, .dx = d_context});
  }
  const TensorView qkv = pass.matrix(activations_.qkv, 3 * dim_);
  const TensorView d_qkv = pass.matrix(activations_.qkv_gradient, 3 * dim_);
  {
    const TraceScope scope("attention function backward");
    attention_backward(pass.ctx, {.config = attention_,
                                  .q = heads(pass, qkv, 0),
                                  .k = heads(pass, qkv, 1),
                                  .v = heads(pass, qkv, 2),
                                  .key_mask = pass.mask,
                                  .o = heads(pass, context, 0),
                                  .o2 = heads(pass, pass.matrix(activations_.saved_o2, dim_), 0),
                                  .u = heads(pass, pass.matrix(activations_.saved_u, dim_), 0),
                                  .stats = {pass.arena.view(activations_.saved_stats).data(),
                                            DType::kF32, Shape{pass.batch, heads_, pass.tokens, 4}},
                                  .d_o = heads(pass, d_context, 0),
                                  .dq = heads(pass, d_qkv, 0),
                                  .dk = heads(pass, d_qkv, 1),
                                  .dv = heads(pass, d_qkv, 2),
                                  .dropout = weight_dropout(pass)});
  }
  if (rotary_) {
    rotate(pass, d_qkv, true);
  }
  const TraceScope scope("attention qkv product backward");
  linear_backward_kernel(
      pass.ctx, {.x = input, .dy = d_qkv, .dkernel = qkv_.kernel_grad, .dbias = qkv_.bias_grad});
  linear_backward_input(
      pass.ctx, {.dy = d_qkv, .kernel = qkv_.kernel, .dx = d_input, .accumulate = accumulate});
}

FeedForwardBranch::FeedForwardBranch(const ModelConfig& config, const ParameterBlocks& blocks,
                                     int64_t block, const FeedForwardActivations& activations)
    : dim_(config.dim),
      dim_ff_(config.dim_ff),
      activations_(activations),
      expand_(dense_parameters(blocks, fmt::format("blocks.{}.ff1", block))),
      contract_(dense_parameters(blocks, fmt::format("blocks.{}.ff2", block))) {}

TensorView FeedForwardBranch::relu_mask(const ModelPass& pass) const {
  if (activations_.relu_mask < 0) {
    return {};
  }
  return {pass.arena.view(activations_.relu_mask).data(), DType::kU8,
          Shape{pass.rows(), relu_mask_bytes(dim_ff_)}};
}

TensorView FeedForwardBranch::forward(const ModelPass& pass, const ConstTensorView& input) const {
  {
    const TraceScope scope("feed-forward expand");
    linear_forward(pass.ctx, {.x = input,
                              .kernel = expand_.kernel,
                              .bias = expand_.bias,
                              .y = pass.matrix(activations_.hidden, dim_ff_),
                              .activation = Activation::kRelu,
                              .relu_mask = pass.training ? relu_mask(pass) : TensorView(),
                              .relu_mask_written = &relu_mask_written_});
  }
  const TensorView output = pass.matrix(activations_.output, dim_);
  recompute_output(pass, output);
  return output;
}

void FeedForwardBranch::recompute_output(const ModelPass& pass, const TensorView& output) const {
  const TraceScope scope("feed-forward contract");
  linear_forward(pass.ctx, {.x = pass.matrix(activations_.hidden, dim_ff_),
                            .kernel = contract_.kernel,
                            .bias = contract_.bias,
                            .y = output});
}

void FeedForwardBranch::backward(const ModelPass& pass, const ConstTensorView& input,
                                 const ConstTensorView& d_output, const TensorView& d_input,
                                 bool accumulate) const {
  const TensorView hidden = pass.matrix(activations_.hidden, dim_ff_);
  const TensorView d_hidden = pass.matrix(activations_.hidden_gradient, dim_ff_);
  {
    const TraceScope scope("feed-forward contract backward");
    linear_backward_kernel(pass.ctx, {.x = hidden,
                                      .dy = d_output,
                                      .dkernel = contract_.kernel_grad,
                                      .dbias = contract_.bias_grad});
    linear_backward_input(pass.ctx,
                          {.dy = d_output,
                           .kernel = contract_.kernel,
                           .dx = d_hidden,
                           .input_activation = Activation::kRelu,
                           .saved = hidden,
                           .relu_mask = relu_mask_written_ ? relu_mask(pass) : ConstTensorView()});
  }
  const TraceScope scope("feed-forward expand backward");
  linear_backward_kernel(
      pass.ctx,
      {.x = input, .dy = d_hidden, .dkernel = expand_.kernel_grad, .dbias = expand_.bias_grad});
  linear_backward_input(
      pass.ctx,
      {.dy = d_hidden, .kernel = expand_.kernel, .dx = d_input, .accumulate = accumulate});
}

ResidualNorm::ResidualNorm(const ModelConfig& config, const NormParameters& parameters, double p,
                           int64_t block, RandomPurpose purpose, const NormActivations& activations)
    : dim_(config.dim),
      epsilon_(static_cast<float>(config.norm_epsilon)),
      p_(p),
      block_(block),
      purpose_(purpose),
      activations_(activations),
      parameters_(parameters) {}

void ResidualNorm::forward(const ModelPass& pass, const ConstTensorView& branch,
                           const ConstTensorView& residual) const {
  const TraceScope scope("residual norm");
  ResidualNormForwardArgs args{.x = branch,
                               .residual = residual,
                               .gamma = parameters_.gamma,
                               .beta = parameters_.beta,
                               .sum = sum(pass),
                               .y = y(pass),
                               .epsilon = epsilon_,
                               .tokens_per_sample = pass.tokens};
  if (branch) {
    args.dropout = pass.dropout(p_, block_, purpose_);
  }
  if (pass.training) {
    args.mean = pass.vector(activations_.mean);
    args.rstd = pass.vector(activations_.rstd);
  }
  residual_norm_forward(pass.ctx, args);
}

ConstTensorView ResidualNorm::backward(const ModelPass& pass, const ConstTensorView& d_y,
                                       const ConstTensorView& d_sum, const TensorView& d_residual,
                                       ArenaPlan::Id d_branch) const {
  const TraceScope scope("residual norm backward");
  ResidualNormBackwardArgs args{.dy = d_y,
                                .dsum = d_sum,
                                .sum = sum(pass),
                                .mean = pass.vector(activations_.mean),
                                .rstd = pass.vector(activations_.rstd),
                                .gamma = parameters_.gamma,
                                .dresidual = d_residual,
                                .dgamma = parameters_.gamma_grad,
                                .dbeta = parameters_.beta_grad,
                                .tokens_per_sample = pass.tokens};
  const TensorView dropped = pass.matrix(d_branch, dim_);
  if (dropped) {
    args.dx = dropped;
    args.dropout = pass.dropout(p_, block_, purpose_);
  }
  residual_norm_backward(pass.ctx, args);
  return dropped ? dropped : d_residual;
}

}  // namespace stemfabric
