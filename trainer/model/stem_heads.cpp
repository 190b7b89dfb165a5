#include "trainer/model/stem_heads.h"

#include <cstddef>

#include "kernels/linear/linear.h"
#include "runtime/profile/trace.h"

namespace stemfabric {
namespace {

// The same tensor of six layers, which lie at equal distances, as one.
TensorView stacked(const TensorView& first, const TensorView& second, const TensorView& last) {
  if (!first) {
    return {};
  }
  const auto from = [&](const TensorView& view) {
    return static_cast<std::byte*>(view.data()) - static_cast<std::byte*>(first.data());
  };
  SF_CHECK(from(last) == (kStemCount - 1) * from(second), "output layers at unequal distances");
  const int64_t step = from(second) / static_cast<int64_t>(dtype_size(first.dtype()));
  return first.rank() == 2 ? TensorView{first.data(),
                                        first.dtype(),
                                        Shape{kStemCount, first.dim(0), first.dim(1)},
                                        {step, first.stride(0), first.stride(1)}}
                           : TensorView{first.data(),
                                        first.dtype(),
                                        Shape{kStemCount, first.dim(0)},
                                        {step, first.stride(0)}};
}

DenseParameters output_layers(const ParameterBlocks& blocks) {
  const auto of = [&](const std::string_view stem) {
    return dense_parameters(blocks, fmt::format("heads.{}.out", stem), LayerResult::kFloat32);
  };
  const DenseParameters first = of(kStemNames.front());
  const DenseParameters second = of(kStemNames[1]);
  const DenseParameters last = of(kStemNames.back());
  return {.kernel = stacked(first.kernel, second.kernel, last.kernel),
          .bias = stacked(first.bias, second.bias, last.bias),
          .kernel_grad = stacked(first.kernel_grad, second.kernel_grad, last.kernel_grad),
          .bias_grad = stacked(first.bias_grad, second.bias_grad, last.bias_grad)};
}

// The columns of a [M, 6·dim] matrix by stem, [6, M, dim].
TensorView by_stem(const TensorView& matrix, int64_t dim) {
  return {matrix.data(),
          matrix.dtype(),
          Shape{kStemCount, matrix.dim(0), dim},
          {dim, matrix.stride(0), 1}};
}

// [6, B, T, out] as [6, M, out].
TensorView by_rows(const TensorView& all) {
  return all.reshape({all.dim(0), all.dim(1) * all.dim(2), all.dim(3)});
}

}  // namespace

StemHeads::StemHeads(const ModelConfig& config, const ParameterBlocks& blocks,
                     const HeadActivations& activations)
    : dim_(config.dim),
      output_dim_(config.output_dim),
      activations_(activations),
      hidden_(fused_dense_parameters(blocks, "heads.hidden")),
      output_(output_layers(blocks)) {}

TensorView StemHeads::output(const ModelPass& pass) const {
  return {pass.arena.view(activations_.output).data(), DType::kF32,
          Shape{kStemCount, pass.batch, pass.tokens, output_dim_}};
}

TensorView StemHeads::output_gradient(const ModelPass& pass) const {
  const TensorView gradient = pass.arena.view(activations_.output_gradient);
  return {gradient.data(), gradient.dtype(),
          Shape{kStemCount, pass.batch, pass.tokens, output_dim_}};
}

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
  linear_forward(pass.ctx, {.x = by_stem(hidden, dim_),
                            .kernel = output_.kernel,
                            .bias = output_.bias,
                            .y = by_rows(output(pass))});
}

void StemHeads::backward(const ModelPass& pass, const ConstTensorView& input,
                         const TensorView& d_input) const {
  const int64_t width = kStemCount * dim_;
  const TensorView hidden = pass.matrix(activations_.hidden, width);
  const TensorView pre_activation = pass.matrix(activations_.pre_activation, width);
  const TensorView d_hidden = pass.matrix(activations_.hidden_gradient, width);
  {
    const TraceScope scope("heads output product backward");
    const ConstTensorView d_output = by_rows(output_gradient(pass));
    linear_backward_kernel(pass.ctx, {.x = by_stem(hidden, dim_),
                                      .dy = d_output,
                                      .dkernel = output_.kernel_grad,
                                      .dbias = output_.bias_grad});
    linear_backward_input(pass.ctx, {.dy = d_output,
                                     .kernel = output_.kernel,
                                     .dx = by_stem(d_hidden, dim_),
                                     .input_activation = Activation::kReluQuantum,
                                     .saved = by_stem(pre_activation, dim_)});
  }
  const TraceScope scope("heads hidden product backward");
  linear_backward_kernel(
      pass.ctx,
      {.x = input, .dy = d_hidden, .dkernel = hidden_.kernel_grad, .dbias = hidden_.bias_grad});
  linear_backward_input(pass.ctx, {.dy = d_hidden, .kernel = hidden_.kernel, .dx = d_input});
}

}  // namespace stemfabric
