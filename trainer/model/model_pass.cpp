#include "trainer/model/model_pass.h"

namespace stemfabric {

namespace {

TensorView view_in(const ParameterInfo& info, float* block) {
  return block == nullptr ? TensorView() : ParameterTable::view(info, block);
}

DenseParameters dense_of(const ParameterBlocks& blocks, const ParameterInfo& kernel,
                         const ParameterInfo& bias, LayerResult result) {
  const bool narrow = blocks.factors != nullptr;
  const bool narrow_result = narrow && result == LayerResult::kOfThePass;
  return {.kernel = narrow ? ParameterTable::view(kernel, blocks.factors)
                           : view_in(kernel, blocks.weights),
          .bias = narrow_result ? ParameterTable::view(bias, blocks.factors)
                                : view_in(bias, blocks.weights),
          .kernel_grad = view_in(kernel, blocks.gradients),
          .bias_grad = view_in(bias, blocks.gradients)};
}

}  // namespace

DenseParameters dense_parameters(const ParameterBlocks& blocks, const std::string& name,
                                 LayerResult result) {
  return dense_of(blocks, blocks.table.find(name + ".kernel"), blocks.table.find(name + ".bias"),
                  result);
}

DenseParameters fused_dense_parameters(const ParameterBlocks& blocks, const std::string& name) {
  return dense_of(blocks, blocks.table.fused(name + ".kernel"), blocks.table.fused(name + ".bias"),
                  LayerResult::kOfThePass);
}

NormParameters norm_parameters(const ParameterBlocks& blocks, const std::string& name) {
  const ParameterInfo& gamma = blocks.table.find(name + ".gamma");
  const ParameterInfo& beta = blocks.table.find(name + ".beta");
  return {.gamma = view_in(gamma, blocks.weights),
          .beta = view_in(beta, blocks.weights),
          .gamma_grad = view_in(gamma, blocks.gradients),
          .beta_grad = view_in(beta, blocks.gradients)};
}

}  // namespace stemfabric
