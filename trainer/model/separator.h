// The stem model: explicit forward and backward over one parameter block and one planned arena.
//
//   z = ((x − mean)·scale) Win + b + pos[t]
//   post-norm block:  y = LN(z + drop(MHA(z)));  z = LN(y + drop(W2 relu(W1 y)))
//   pre-norm block:   y = z + drop(MHA(LN(z)));  z = y + drop(W2 relu(W1 LN(y)))   (+ a last LN)
//   head s:           out_s = Wout q(relu(Whidden z)) + b
// Formulas and the definition of q: docs/model.md.
//
// limits.precision kBF16: products and attention take bf16 factors and add in float32, activations
// and their gradients are bf16 but for the outputs' (activation_plan.h); weights and their
// gradients are float32. Each forward rounds the weights anew.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/device/execution_context.h"
#include "runtime/memory/buffer.h"
#include "trainer/config/config.h"
#include "trainer/model/activation_plan.h"
#include "trainer/model/model_pass.h"
#include "trainer/model/parameter_table.h"

namespace stemfabric {

class Separator {
 public:
  using Limits = ActivationLimits;
  using StepRandom = stemfabric::StepRandom;

  // Weights are zero until initialised or read. ctx must outlive the model; its resource provides
  // all memory. ConfigError if the configuration makes no model.
  Separator(const ExecutionContext& ctx, const ModelConfig& config, const Limits& limits);
  ~Separator();
  Separator(const Separator&) = delete;
  Separator& operator=(const Separator&) = delete;

  const ExecutionContext& context() const;
  const ModelConfig& config() const;
  const Limits& limits() const;
  const ParameterTable& parameters() const;
  TensorView weights();  // [block_elements] f32
  ConstTensorView weights() const;
  TensorView gradients();  // [block_elements] f32; training only; zero at first, backward adds
  // Input statistics, [F] each; 0 and 1 until set.
  TensorView input_mean();
  TensorView input_scale();

  // inputs [B,T,F] f32, mask [B,T] u8 (may be absent), both contiguous, B and T within the limits.
  // Returns [6,B,T,out] f32, valid until the next call of forward() or backward(). training:
  // applies dropout and keeps what backward needs. InputError if the sequence is longer than
  // max_sequence_length or has another number of features.
  ConstTensorView forward(const ConstTensorView& inputs, const ConstTensorView& mask, bool training,
                          const StepRandom& random);
  // Where the gradient of the last training forward's outputs is to be written, [6,B,T,out].
  TensorView output_gradient();
  // Adds to gradients(); uses the last training forward and output_gradient(). Once per forward.
  // On the way `kernels_are_final(m)` is called with each of final_marks() in turn: gradients of
  // the kernels from element m of the block on (up to parameters().decayed_elements()) are final
  // then, or once the stream has come so far, while the others are still to come.
  void backward(const std::function<void(int64_t)>& kernels_are_final = {});
  // From the last to the first: where the kernels of the heads begin, and those of each block.
  const std::vector<int64_t>& final_marks() const;

  // Intermediate results of the last training forward by name ("embed", "blocks.0.attn",
  // "blocks.0.ln1", "blocks.0.ff", "blocks.0.ln2"; attn and ff before dropout), [B,T,dim], copied;
  // for tests and inspection. Not after backward().
  std::map<std::string, Tensor> taps() const;

  std::size_t activation_bytes() const;  // of the planned arena
  std::size_t parameter_bytes() const;   // of weights, bf16 weights, and gradients if training

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Memory plan without allocating: activation bytes for a configuration.
std::size_t plan_activation_bytes(const ModelConfig& config, const Separator::Limits& limits);

}  // namespace stemfabric
