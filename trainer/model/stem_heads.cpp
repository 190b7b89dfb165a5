#include "trainer/model/stem_heads.h"

#include "kernels/linear/linear.h"
#include "runtime/profile/trace.h"

namespace stemfabric {

StemHeads::StemHeads(const ModelConfig& config, const ParameterBlocks& blocks,
                     const HeadActivations& activations)
    : dim_(config.dim),
      output_dim_(config.output_dim),
      activations_(activations),
      hidden_(fused_dense_parameters(blocks, "heads.hidden")) {
  for (std::size_t s = 0; s < output_.size(); ++s) {
    output_[s] =
        dense_parameters(blocks, fmt::format("heads.{}.out", kStemNames[s]), LayerResult::kFloat32);
  }
}

TensorView StemHeads::output(const ModelPass& pass) const {
  return {pass.arena.view(activations_.output).data(), DType::kF32,
          Shape{kStemCount, pass.batch, pass.tokens, output_dim_}};
}

TensorView StemHeads::output_gradient(const ModelPass& pass) const {
  return {pass.arena.view(activations_.output_gradient).data(), DType::kF32,
          Shape{kStemCount, pass.batch, pass.tokens, output_dim_}};
}

namespace {
// Stem s of [6, B, T, out] as [M, out].
template <typename View>
View stem_matrix(const View& all, int64_t s) {
  return all.slice(0, s, 1).reshape({all.dim(1) * all.dim(2), all.dim(3)});
}
}  // namespace

void StemHeads::forward(const ModelPass& pass, const ConstTensorView& input) const {
  const int64_t width = kStemCount * dim_;
  const TensorView hidden = pass.matrix(activations_.hidden, width);
  {
    const TraceScope scope("heads hidden product");
    linear_forward(
        pass.ctx, {.x = input,
                   .kernel = hidden_.kernel,
                   .bias = hidden_.bias,
                   .y = hidden,
                   .pre_activation = pass.training ? pass.matrix(activations_.pre_activation, width)
                                                   : TensorView(),
                   .activation = Activation::kReluQuantum});
  }
  const TraceScope scope("heads output product");
  const TensorView all = output(pass);
  for (int64_t s = 0; s < kStemCount; ++s) {
    const DenseParameters& p = output_[static_cast<std::size_t>(s)];
    linear_forward(pass.ctx, {.x = hidden.slice(1, s * dim_, dim_),
                              .kernel = p.kernel,
                              .bias = p.bias,
                              .y = stem_matrix(all, s)});
  }
}

void StemHeads::backward(const ModelPass& pass, const ConstTensorView& input,
                         const TensorView& d_input) const {
  const int64_t width = kStemCount * dim_;
  const TensorView hidden = pass.matrix(activations_.hidden, width);
  const TensorView pre_activation = pass.matrix(activations_.pre_activation, width);
  const TensorView d_hidden = pass.matrix(activations_.hidden_gradient, width);
  const ConstTensorView d_all =
      pass.factor(output_gradient(pass), activations_.output_gradient_factor);
  {
    const TraceScope scope("heads output product backward");
    for (int64_t s = 0; s < kStemCount; ++s) {
      const DenseParameters& p = output_[static_cast<std::size_t>(s)];
      const ConstTensorView d_output = stem_matrix(d_all, s);
      linear_backward_kernel(pass.ctx, {.x = hidden.slice(1, s * dim_, dim_),
                                        .dy = d_output,
                                        .dkernel = p.kernel_grad,
                                        .dbias = p.bias_grad});
      linear_backward_input(pass.ctx, {.dy = d_output,
                                       .kernel = p.kernel,
                                       .dx = d_hidden.slice(1, s * dim_, dim_),
                                       .input_activation = Activation::kReluQuantum,
                                       .saved = pre_activation.slice(1, s * dim_, dim_)});
    }
  }
  const TraceScope scope("heads hidden product backward");
  linear_backward_kernel(
      pass.ctx,
      {.x = input, .dy = d_hidden, .dkernel = hidden_.kernel_grad, .dbias = hidden_.bias_grad});
  linear_backward_input(pass.ctx, {.dy = d_hidden, .kernel = hidden_.kernel, .dx = d_input});
}

}  // namespace stemfabric
