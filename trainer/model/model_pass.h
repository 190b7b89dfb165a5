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
};

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
    return id < 0 ? TensorView()
                  : TensorView(arena.view(id).data(), DType::kF32, Shape{rows(), columns});
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
            .key = philox_launch_key(random.seed, random.step, static_cast<uint32_t>(layer),
                                     static_cast<uint32_t>(purpose)),
            .sample0 = random.sample0};
  }
};

// Where parameters and their gradients are; gradients is null in inference.
struct ParameterBlocks {
  const ParameterTable& table;
  float* weights = nullptr;
  float* gradients = nullptr;
};

struct DenseParameters {
  TensorView kernel, bias;            // [in, out], [out]
  TensorView kernel_grad, bias_grad;  // absent in inference
};

struct NormParameters {
  TensorView gamma, beta;            // [dim]
  TensorView gamma_grad, beta_grad;  // absent in inference
};

// The layer "<name>.{kernel,bias}", "<name>.{gamma,beta}"; fused: see ParameterTable::fused.
DenseParameters dense_parameters(const ParameterBlocks& blocks, const std::string& name);
DenseParameters fused_dense_parameters(const ParameterBlocks& blocks, const std::string& name);
NormParameters norm_parameters(const ParameterBlocks& blocks, const std::string& name);

}  // namespace stemfabric
