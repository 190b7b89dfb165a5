// The stem model: explicit forward and backward over one parameter block and one planned arena.
//
//   z = ((x − mean)·scale) Win + b + pos[t]
//   post-norm block:  y = LN(z + drop(MHA(z)));  z = LN(y + drop(W2 relu(W1 y)))
//   pre-norm block:   y = z + drop(MHA(LN(z)));  z = y + drop(W2 relu(W1 LN(y)))   (+ a last LN)
//   head s:           out_s = Wout q(relu(Whidden z)) + b
// Formulas and the definition of q: docs/model.md.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "runtime/device/execution_context.h"
#include "runtime/memory/buffer.h"
#include "trainer/config/config.h"
#include "trainer/model/parameter_table.h"

namespace stemfabric {

class Separator {
 public:
  struct Limits {
    int64_t batch = 1;  // largest batch and sequence that will be run
    int64_t tokens = 1;
    bool training = false;  // plans memory for backward; inference shares much more
  };
  // Where the random bits of one forward/backward pair come from (dropout).
  struct StepRandom {
    uint64_t seed = 0;
    uint64_t step = 0;
    int64_t sample0 = 0;  // global index of the batch's first sample within the step
  };

  Separator(const ExecutionContext& ctx, const ModelConfig& config, const Limits& limits);
  ~Separator();
  Separator(const Separator&) = delete;
  Separator& operator=(const Separator&) = delete;

  const ModelConfig& config() const;
  const ParameterTable& parameters() const;
  TensorView weights();    // [block_elements] f32
  TensorView gradients();  // [block_elements] f32; training only; backward adds to it
  // Input statistics, [F] each; 0 and 1 until set.
  TensorView input_mean();
  TensorView input_scale();

  // inputs [B,T,F] f32, mask [B,T] u8 (may be absent). Returns [6,B,T,out] f32, valid until the
  // next call. training: applies dropout and keeps what backward needs.
  ConstTensorView forward(const ConstTensorView& inputs, const ConstTensorView& mask, bool training,
                          const StepRandom& random);
  // Where the gradient of the last forward's outputs is to be written, [6,B,T,out].
  TensorView output_gradient();
  // Adds to gradients(); uses the last training forward and output_gradient().
  void backward();

  // Intermediate results of the last training forward by the goldens' names ("embed",
  // "blocks.0.attn", "blocks.0.ln1", "blocks.0.ff", "blocks.0.ln2"), [B,T,dim], copied; for tests
  // and inspection.
  std::map<std::string, Tensor> taps() const;

  // Bytes of the planned activations, and of parameters with everything of the same size.
  std::size_t activation_bytes() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Memory plan without allocating: activation bytes for a configuration.
std::size_t plan_activation_bytes(const ModelConfig& config, const Separator::Limits& limits);

}  // namespace stemfabric
