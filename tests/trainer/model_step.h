// One training step of a Separator as tests need it: loss with gradient, backward, Adam.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "kernels/adam/adam.h"
#include "kernels/stem_loss/stem_loss.h"
#include "tests/oracles/model_oracle.h"
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

template <typename T>
ConstTensorView view_of(const std::vector<T>& values, const Shape& shape) {
  return values.empty() ? ConstTensorView() : ConstTensorView(values.data(), shape);
}

// Loss of `prediction`; writes its gradient if `gradient` is there. `count` [6] is the denominator:
// empty = counted here.
inline StepLoss run_loss(const ExecutionContext& ctx, const ConstTensorView& prediction,
                         const LossData& data, const TensorView& gradient,
                         std::vector<double> count = {}) {
  const Shape& shape = prediction.shape();
  const ConstTensorView target_mask = view_of(data.target_mask, shape);
  const ConstTensorView key_mask = view_of(data.key_mask, {shape[1], shape[2]});
  if (count.empty()) {
    count.assign(kStemCount, 0.0);
    stem_count(ctx, {.target_mask = target_mask,
                     .key_mask = key_mask,
                     .shape = shape,
                     .count = {count.data(), Shape{kStemCount}}});
  }
  StepLoss result;
  stem_loss(ctx, {.prediction = prediction,
                  .target = view_of(data.target, shape),
                  .target_mask = target_mask,
                  .key_mask = key_mask,
                  .weight = view_of(data.weight, {shape[1], kStemCount}),
                  .count = {count.data(), Shape{kStemCount}},
                  .gradient = gradient,
                  .loss = {result.loss.data(), Shape{kStemCount}},
                  .weighted = {result.weighted.data(), Shape{kStemCount}}});
  return result;
}

// Named parameters of a block, in float64.
inline std::map<std::string, std::vector<double>> named_parameters(const ParameterTable& table,
                                                                   const float* block) {
  std::map<std::string, std::vector<double>> named;
  for (const ParameterInfo& p : table.entries()) {
    const int64_t columns = p.shape[-1];
    std::vector<double>& values = named[p.name];
    for (int64_t i = 0; i < p.shape.elements(); ++i) {
      values.push_back(block[p.offset + i / columns * p.row_stride + i % columns]);
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
  float* block = model.weights().as<float>();
  model.parameters().initialize(block, seed);
  const std::vector<float> noise = random_values(model.parameters().block_elements(), seed, 0.3f);
  for (const ParameterInfo& p : model.parameters().entries()) {
    if (p.shape.rank() == 1) {
      for (int64_t i = p.offset; i < p.offset + p.shape[0]; ++i) {
        block[i] += noise[static_cast<std::size_t>(i)];
      }
    }
  }
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
  const ConstTensorView prediction = model.forward(batch.inputs(), batch.mask(), true, random);
  const StepLoss loss = run_loss(ctx, prediction, batch.loss, model.output_gradient(), count);
  model.backward();
  return loss;
}

inline std::vector<float> block_values(const ConstTensorView& block) {
  return {block.as<float>(), block.as<float>() + block.elements()};
}

inline void zero(const TensorView& block) { std::memset(block.data(), 0, block.bytes()); }

}  // namespace stemfabric::test
