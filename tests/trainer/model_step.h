// One training step of a Separator as tests need it: loss with gradient, backward, Adam. Values of
// a test are host memory; these helpers copy them to and from wherever the context's ops read them.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kernels/adam/adam.h"
#include "kernels/stem_loss/stem_loss.h"
#include "runtime/memory/host_access.h"
#include "tests/oracles/model_oracle.h"
#include "tests/support/op_harness.h"
#include "trainer/model/separator.h"
#include "trainer/stems.h"

namespace stemfabric::test {

// What a batch holds besides the inputs; empty vectors are absent arguments.
struct LossData {
  std::vector<float> target;         // [6, B, T, out]
  std::vector<uint8_t> target_mask;  // [6, B, T, out]
  std::vector<uint8_t> key_mask;     // [B, T]
  std::vector<float> weight;         // [B, 6]
};

struct StepLoss {
  std::vector<double> loss = std::vector<double>(kStemCount);
  std::vector<double> weighted = std::vector<double>(kStemCount);
  double total() const {
    double sum = 0;
    for (const double w : weighted) {
      sum += w;
    }
    return sum;
  }
};

// Any context of the program will do for copies: all are on one device.
inline const ExecutionContext& copying_context() {
  static const ExecutionContext& context = test_context();
  return context;
}
inline std::vector<float> block_values(const ConstTensorView& block) {
  std::vector<float> values(static_cast<std::size_t>(block.elements()));
  copy_to_host(copying_context(), values.data(), block);
  return values;
}
inline void write_block(const TensorView& block, const std::vector<float>& values) {
  ASSERT_EQ(static_cast<int64_t>(values.size()), block.elements());
  copy_from_host(copying_context(), block, values.data());
}
inline void copy_block(const TensorView& to, const ConstTensorView& from) {
  write_block(to, block_values(from));
}
inline void zero(const TensorView& block) {
  copying_context().stream().fill(block.data(), 0, block.bytes());
}
// A copy of a host view for the ops of a context; absent if the view is.
inline Tensor uploaded(const ExecutionContext& ctx, const ConstTensorView& host) {
  if (!host) {
    return {};
  }
  Tensor tensor(host.shape(), host.dtype(), ctx.resource(), "test data");
  copy_from_host(ctx, tensor.view(), host.data());
  return tensor;
}

template <typename T>
ConstTensorView view_of(const std::vector<T>& values, const Shape& shape) {
  return values.empty() ? ConstTensorView() : ConstTensorView(values.data(), shape);
}

inline std::vector<double> count_present(const ExecutionContext& ctx, const LossData& data,
                                         const Shape& shape) {
  const Tensor target_mask = uploaded(ctx, view_of(data.target_mask, shape));
  const Tensor key_mask = uploaded(ctx, view_of(data.key_mask, {shape[1], shape[2]}));
  Tensor count({kStemCount}, DType::kF64, ctx.resource(), "test data");
  zero(count.view());
  stem_count(ctx, {.target_mask = target_mask.view(),
                   .key_mask = key_mask.view(),
                   .shape = shape,
                   .count = count.view()});
  std::vector<double> values(kStemCount);
  copy_to_host(ctx, values.data(), count.view());
  return values;
}

// Loss of `prediction`; writes its gradient if `gradient` is there. `count` [6] is the denominator:
// empty = counted here.
inline StepLoss run_loss(const ExecutionContext& ctx, const ConstTensorView& prediction,
                         const LossData& data, const TensorView& gradient,
                         std::vector<double> count = {}) {
  const Shape& shape = prediction.shape();
  if (count.empty()) {
    count = count_present(ctx, data, shape);
  }
  const Tensor target = uploaded(ctx, view_of(data.target, shape));
  const Tensor target_mask = uploaded(ctx, view_of(data.target_mask, shape));
  const Tensor key_mask = uploaded(ctx, view_of(data.key_mask, {shape[1], shape[2]}));
  const Tensor weight = uploaded(ctx, view_of(data.weight, {shape[1], kStemCount}));
  const Tensor denominators = uploaded(ctx, view_of(count, {kStemCount}));
  Tensor sums({2, kStemCount}, DType::kF64, ctx.resource(), "test data");
  zero(sums.view());
  const auto row = [&](int64_t i) { return sums.view().slice(0, i, 1).reshape({kStemCount}); };
  stem_loss(ctx, {.prediction = prediction,
                  .target = target.view(),
                  .target_mask = target_mask.view(),
                  .key_mask = key_mask.view(),
                  .weight = weight.view(),
                  .count = denominators.view(),
                  .gradient = gradient,
                  .loss = row(0),
                  .weighted = row(1)});
  StepLoss result;
  copy_to_host(ctx, result.loss.data(), row(0));
  copy_to_host(ctx, result.weighted.data(), row(1));
  return result;
}

// Forward of inputs and mask in host memory.
inline ConstTensorView run_forward(Separator& model, const ConstTensorView& inputs,
                                   const ConstTensorView& mask, bool training,
                                   const Separator::StepRandom& random = {}) {
  const Tensor x = uploaded(model.context(), inputs);
  const Tensor m = uploaded(model.context(), mask);
  const ConstTensorView outputs = model.forward(x.view(), m.view(), training, random);
  model.context().stream().synchronize();
  return outputs;
}

// Named parameters of a block, in float64.
inline std::map<std::string, std::vector<double>> named_parameters(const ParameterTable& table,
                                                                   const ConstTensorView& block) {
  const std::vector<float> block_of_values = block_values(block);
  std::map<std::string, std::vector<double>> named;
  for (const ParameterInfo& p : table.entries()) {
    const int64_t columns = p.shape[-1];
    std::vector<double>& values = named[p.name];
    for (int64_t i = 0; i < p.shape.elements(); ++i) {
      const int64_t at = p.offset + i / columns * p.row_stride + i % columns;
      values.push_back(block_of_values[static_cast<std::size_t>(at)]);
    }
  }
  return named;
}

// Reproducible values in [-1, 1).
inline std::vector<float> random_values(int64_t n, uint32_t seed, float range = 1.0f) {
  std::vector<float> values;
  for (int64_t i = 0; i < n; ++i) {
    const PhiloxCounter bits =
        philox4x32_10({{static_cast<uint32_t>(i), 0, 0, 0}}, {{seed, 0x7e57u}});
    values.push_back(range * (2 * philox_uniform(bits.word[0]) - 1));
  }
  return values;
}

// A random initialisation in which every parameter matters: vectors are not 0 and 1.
inline void randomize(Separator& model, uint32_t seed) {
  const std::vector<float> noise = random_values(model.parameters().block_elements(), seed, 0.3f);
  std::vector<float> block(noise.size());
  model.parameters().initialize(block.data(), seed);
  for (const ParameterInfo& p : model.parameters().entries()) {
    if (p.shape.rank() == 1) {
      for (int64_t i = p.offset; i < p.offset + p.shape[0]; ++i) {
        block[static_cast<std::size_t>(i)] += noise[static_cast<std::size_t>(i)];
      }
    }
  }
  write_block(model.weights(), block);
}

inline ModelConfig tiny_config() {
  ModelConfig c;
  c.input_dim = 5;
  c.dim = 12;
  c.depth = 2;
  c.heads = 3;
  c.dim_ff = 20;
  c.output_dim = 4;
  c.max_sequence_length = 9;
  c.attn_dropout = 0;
  c.ff_dropout = 0;
  return c;
}

// A batch for a configuration: ragged masks, missing elements, weights.
struct TestBatch {
  TestBatch(const ModelConfig& config, int64_t samples, int64_t length, uint32_t seed)
      : batch(samples),
        tokens(length),
        x(random_values(samples * length * config.input_dim, seed)) {
    const int64_t elements = kStemCount * batch * tokens * config.output_dim;
    loss.target = random_values(elements, seed + 1);
    const std::vector<float> missing = random_values(elements, seed + 2);
    for (const float m : missing) {
      loss.target_mask.push_back(m > -0.8f ? 1 : 0);
    }
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t t = 0; t < tokens; ++t) {
        loss.key_mask.push_back(t < tokens - b % 3 && !(b == 1 && t == 0) ? 1 : 0);
      }
    }
    for (const float w : random_values(batch * kStemCount, seed + 3)) {
      loss.weight.push_back(1.5f + w);
    }
  }
  ConstTensorView inputs() const {
    return view_of(x, {batch, tokens, static_cast<int64_t>(x.size()) / (batch * tokens)});
  }
  ConstTensorView mask() const { return view_of(loss.key_mask, {batch, tokens}); }

  // Samples [begin, begin + count) as a batch of their own.
  TestBatch slice(int64_t begin, int64_t count) const {
    TestBatch part = *this;
    part.batch = count;
    const auto cut = [&](auto& values, int64_t outer) {
      if (values.empty()) {
        return;
      }
      const int64_t inner = static_cast<int64_t>(values.size()) / (outer * batch);
      auto whole = values;
      values.clear();
      for (int64_t o = 0; o < outer; ++o) {
        const auto from = whole.begin() + (o * batch + begin) * inner;
        values.insert(values.end(), from, from + count * inner);
      }
    };
    cut(part.x, 1);
    cut(part.loss.target, kStemCount);
    cut(part.loss.target_mask, kStemCount);
    cut(part.loss.key_mask, 1);
    cut(part.loss.weight, 1);
    return part;
  }

  int64_t batch;
  int64_t tokens;
  std::vector<float> x;
  LossData loss;
};

// Forward, loss and backward of a batch; gradients are added. Returns the loss.
inline StepLoss forward_backward(const ExecutionContext& ctx, Separator& model,
                                 const TestBatch& batch, const Separator::StepRandom& random = {},
                                 const std::vector<double>& count = {}) {
  const ConstTensorView prediction = run_forward(model, batch.inputs(), batch.mask(), true, random);
  StepLoss loss = run_loss(ctx, prediction, batch.loss, model.output_gradient(), count);
  model.backward();
  return loss;
}

}  // namespace stemfabric::test
