// What the layers of the model share: the pass they take part in, and their parameters' views.
#pragma once

#include <string>

#include "kernels/common/philox.h"
#include "runtime/device/execution_context.h"
#include "runtime/memory/arena.h"
#include "trainer/model/parameter_table.h"
#include "trainer/random_purpose.h"

namespace stemfabric {

// Where the random bits of one forward/backward pair come from (dropout).
struct StepRandom {
  uint64_t seed = 0;
  uint64_t step = 0;
  int64_t sample0 = 0;  // global index of the batch's first sample within the step
  // On a device, if not null: dropout_keys(seed, step, …) in its memory, so that a captured pass
  // can be done again for another step.
  const PhiloxKey* keys = nullptr;
};

// The keys of all dropout of a step: that of (layer, purpose) at dropout_key_index(layer, purpose).
inline int64_t dropout_key_index(int64_t layer, RandomPurpose purpose) {
  return 3 * layer + static_cast<int64_t>(purpose) -
         static_cast<int64_t>(RandomPurpose::kAttentionWeightDropout);
}
inline int64_t dropout_key_count(int64_t layers) {
  return dropout_key_index(layers, RandomPurpose::kAttentionWeightDropout);
}
inline PhiloxKey dropout_key(uint64_t seed, uint64_t step, int64_t layer, RandomPurpose purpose) {
  return philox_launch_key(seed, step, static_cast<uint32_t>(layer),
                           static_cast<uint32_t>(purpose));
}
inline void dropout_keys(uint64_t seed, uint64_t step, int64_t layers, PhiloxKey* keys) {
  for (int64_t layer = 0; layer < layers; ++layer) {
    for (const RandomPurpose purpose :
         {RandomPurpose::kAttentionWeightDropout, RandomPurpose::kAttentionOutputDropout,
          RandomPurpose::kFeedForwardDropout}) {
      keys[dropout_key_index(layer, purpose)] = dropout_key(seed, step, layer, purpose);
    }
  }
}

// One forward/backward pair: its size, its memory and its randomness.
struct ModelPass {
  const ExecutionContext& ctx;
  const Arena& arena;
  int64_t batch = 0;
  int64_t tokens = 0;
  bool training = false;
  StepRandom random;
  ConstTensorView mask;  // [B, T] u8, absent if there is none

  int64_t rows() const { return batch * tokens; }
  // The planned tensor, cut to the size of this pass; an absent view if it was not planned.
  TensorView matrix(ArenaPlan::Id id, int64_t columns) const {
    if (id < 0) {
      return {};
    }
    const TensorView whole = arena.view(id);
    return {whole.data(), whole.dtype(), Shape{rows(), columns}};
  }
  TensorView vector(ArenaPlan::Id id) const {
    return id < 0 ? TensorView() : TensorView(arena.view(id).data(), DType::kF32, Shape{rows()});
  }
  // Dropout of probability p: off (p = 0) unless training.
  DropoutConfig dropout(double p, int64_t layer, RandomPurpose purpose) const {
    if (!training || p <= 0.0) {
      return {};
    }
    return {.p = static_cast<float>(p),
            .key = dropout_key(random.seed, random.step, layer, purpose),
            .sample0 = random.sample0,
            .key_at =
                random.keys == nullptr ? nullptr : random.keys + dropout_key_index(layer, purpose)};
  }
};

// Where parameters and their gradients are; gradients is null in inference. In bf16 products read
// the rounded weights, `factors`; in float32 it is null.
struct ParameterBlocks {
  const ParameterTable& table;
  float* weights = nullptr;
  float* gradients = nullptr;
  Bf16* factors = nullptr;
};

// Whether the results of a layer are float32 in every precision, or of the precision of the pass.
enum class LayerResult : uint8_t { kOfThePass, kFloat32 };

struct DenseParameters {
  TensorView kernel, bias;            // [in, out], [out]; of the type of factors, of results
  TensorView kernel_grad, bias_grad;  // absent in inference
};

struct NormParameters {
  TensorView gamma, beta;            // [dim]
  TensorView gamma_grad, beta_grad;  // absent in inference
};

// The layer "<name>.{kernel,bias}", "<name>.{gamma,beta}"; fused: see ParameterTable::fused.
DenseParameters dense_parameters(const ParameterBlocks& blocks, const std::string& name,
                                 LayerResult result = LayerResult::kOfThePass);
DenseParameters fused_dense_parameters(const ParameterBlocks& blocks, const std::string& name);
NormParameters norm_parameters(const ParameterBlocks& blocks, const std::string& name);

}  // namespace stemfabric
