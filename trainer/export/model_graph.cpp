#include "trainer/export/model_graph.h"

#include <fmt/core.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "trainer/config/config_io.h"
#include "trainer/stems.h"
#include "trainer/version.h"

namespace stemfabric {
namespace {

using Value = GraphBuilder::Value;

constexpr float kMaskedScore = 30000.0F;

class ModelGraph {
 public:
  ModelGraph(const ModelWeights& weights, GraphBuilder& graph)
      : weights_(weights), config_(weights.config()), graph_(graph) {}

  void build() {
    prepare_mask();
    Value z = embed();
    if (config_.positions == "rotary") {
      prepare_rotation();
    }
    const bool pre = config_.norm_placement == "pre";
    for (int64_t i = 0; i < config_.depth; ++i) {
      const std::string block = fmt::format("blocks.{}.", i);
      if (pre) {
        z = add(z, attention(block, norm(block + "ln1", z)));
        z = add(z, feed_forward(block, norm(block + "ln2", z)));
      } else {
        z = norm(block + "ln1", add(z, attention(block, z)));
        z = norm(block + "ln2", add(z, feed_forward(block, z)));
      }
    }
    if (pre) {
      z = norm("final_norm", z);
    }
    for (const std::string_view stem : kStemNames) {
      head(std::string(stem), z);
    }
  }

 private:
  Value add(const Value& a, const Value& b) { return graph_.binary(GraphBinary::kAdd, a, b); }
  Value subtract(const Value& a, const Value& b) {
    return graph_.binary(GraphBinary::kSubtract, a, b);
  }
  Value multiply(const Value& a, const Value& b) {
    return graph_.binary(GraphBinary::kMultiply, a, b);
  }
  // Each value is made in a statement of its own where another is made beside it: arguments have no
  // order in C++, and names of nodes count.
  Value scaled(double factor, const Value& x) {
    return multiply(x, graph_.scalar(static_cast<float>(factor)));
  }
  Value parameter(const std::string& name) {
    return graph_.constant(name, weights_.tensor(name).view());
  }
  Value vector(const std::string& name, const std::vector<float>& values) {
    return graph_.constant(name, {values.data(), Shape{static_cast<int64_t>(values.size())}});
  }

  void prepare_mask() {
    graph_.enter("mask");
    mask_ = graph_.key_mask();
    masked_score_ = scaled(kMaskedScore, subtract(mask_, graph_.scalar(1.0F)));
    if (config_.attention.activation == "superposition_normalized") {
      nothing_present_ = subtract(graph_.scalar(1.0F), graph_.largest(mask_));
    }
  }

  Value dense(const std::string& layer, const Value& x) {
    graph_.enter(layer);
    const Value y = graph_.product(x, parameter(layer + ".kernel"));
    return add(y, parameter(layer + ".bias"));
  }

  Value norm(const std::string& layer, const Value& x) {
    graph_.enter(layer);
    const Value gamma = parameter(layer + ".gamma");
    const Value beta = parameter(layer + ".beta");
    return graph_.layer_norm(x, gamma, beta, static_cast<float>(config_.norm_epsilon));
  }

  Value embed() {
    graph_.enter("input");
    Value x = graph_.features();
    const InputStatistics& statistics = weights_.statistics();
    if (!statistics.mean.empty()) {
      x = subtract(x, vector("input.mean", statistics.mean));
      x = multiply(x, vector("input.scale", statistics.scale));
    }
    Value z = dense("input", x);
    if (config_.positions == "learned") {
      graph_.enter("positions");
      z = graph_.add_to_tokens(z, graph_.first_rows(parameter("pos")));
    }
    return z;
  }

  // Tables [L, D/2] of the cosines and sines of t · base^(−2i/D).
  void prepare_rotation() {
    graph_.enter("rotary");
    const int64_t pairs = config_.dim / config_.heads / 2;
    const Shape shape{config_.max_sequence_length, pairs};
    Tensor cosines(shape, DType::kF32);
    Tensor sines(shape, DType::kF32);
    for (int64_t i = 0; i < shape.elements(); ++i) {
      const double exponent = static_cast<double>(i % pairs) / static_cast<double>(pairs);
      const double angle =
          static_cast<double>(i / pairs) * std::pow(config_.rotary_base, -exponent);
      cosines.as<float>()[i] = static_cast<float>(std::cos(angle));
      sines.as<float>()[i] = static_cast<float>(std::sin(angle));
    }
    cosines_ = graph_.first_rows(graph_.constant("rotary.cosines", cosines.view()));
    sines_ = graph_.first_rows(graph_.constant("rotary.sines", sines.view()));
  }

  Value rotated(const Value& heads) {
    if (cosines_.empty()) {
      return heads;
    }
    const int64_t pairs = config_.dim / config_.heads / 2;
    const Value a = graph_.columns(heads, 0, pairs);
    const Value b = graph_.columns(heads, pairs, pairs);
    const Value a_cosine = multiply(a, cosines_);
    const Value a_sine = multiply(a, sines_);
    const Value b_cosine = multiply(b, cosines_);
    const Value b_sine = multiply(b, sines_);
    const Value left = subtract(a_cosine, b_sine);
    return graph_.beside(left, add(b_cosine, a_sine));
  }

  // G of the header from A = softmax of the scores.
  Value attention_function(const Value& a) {
    const AttentionModelConfig& c = config_.attention;
    if (c.activation == "softmax") {
      return multiply(a, mask_);
    }
    const Value first = c.activation == "superposition_centered"
                            ? graph_.unary(GraphUnary::kTanh, scaled(0.5, a))
                            : graph_.unary(GraphUnary::kSigmoid, a);
    const Value sigmoid_part = scaled(c.alpha, first);
    const Value tanh_part = scaled(c.beta, graph_.unary(GraphUnary::kTanh, a));
    const Value inner = scaled(c.gamma, graph_.softmax(add(a, masked_score_)));
    const Value g = multiply(add(add(sigmoid_part, tanh_part), inner), mask_);
    if (c.activation != "superposition_normalized") {
      return g;
    }
    return graph_.binary(GraphBinary::kDivide, g, add(graph_.sum(g), nothing_present_));
  }

  Value attention(const std::string& block, const Value& x) {
    const std::string layer = block + "attn.";
    const Value q = dense(layer + "q", x);
    const Value k = dense(layer + "k", x);
    const Value v = dense(layer + "v", x);
    graph_.enter(block + "attn");
    const Value q_heads = rotated(graph_.split_heads(q));
    const Value k_heads = rotated(graph_.split_heads(k));
    const Value v_heads = graph_.split_heads(v);
    const Value scores = graph_.scores(q_heads, k_heads);
    const double columns = static_cast<double>(config_.dim / config_.heads);
    const Value a = graph_.softmax(add(scaled(1.0 / std::sqrt(columns), scores), masked_score_));
    const Value context = graph_.weighted(attention_function(a), v_heads);
    return dense(layer + "o", graph_.join_heads(context));
  }

  Value feed_forward(const std::string& block, const Value& x) {
    return dense(block + "ff2", graph_.unary(GraphUnary::kRelu, dense(block + "ff1", x)));
  }

  void head(const std::string& stem, const Value& z) {
    const std::string layer = fmt::format("heads.{}.", stem);
    const Value r = graph_.unary(GraphUnary::kRelu, dense(layer + "hidden", z));
    const Value sigmoid_part = scaled(0.4, graph_.unary(GraphUnary::kSigmoid, r));
    const Value tanh_part = scaled(0.4, graph_.unary(GraphUnary::kTanh, r));
    const Value relu_part = scaled(0.2, r);
    graph_.output(stem, dense(layer + "out", add(add(sigmoid_part, tanh_part), relu_part)));
  }

  const ModelWeights& weights_;
  const ModelConfig& config_;
  GraphBuilder& graph_;
  Value mask_, masked_score_, nothing_present_;
  Value cosines_, sines_;  // of rotary positions
};

}  // namespace

std::string name_of_integers(const std::vector<int64_t>& values) {
  std::string name = "integers";
  for (const int64_t value : values) {
    name += fmt::format(".{}", value);
  }
  return name;
}

void build_model_graph(const ModelWeights& weights, GraphBuilder& graph) {
  ModelGraph(weights, graph).build();
}

std::string graph_metadata(const ModelWeights& weights) {
  using Json = nlohmann::ordered_json;
  const InputStatistics& statistics = weights.statistics();
  Json json = {{"config", Json::parse(model_config_to_json(weights.config()))},
               {"stems", kStemNames},
               {"input_statistics", nullptr},
               {"generator", version_line()}};
  if (!statistics.mean.empty()) {
    json["input_statistics"] = {
        {"applied", "in the graph"}, {"mean", statistics.mean}, {"scale", statistics.scale}};
  }
  return json.dump();
}

}  // namespace stemfabric
