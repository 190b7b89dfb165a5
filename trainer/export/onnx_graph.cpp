#include "trainer/export/onnx_graph.h"

#include <map>
#include <set>
#include <span>
#include <vector>

#include "runtime/core/check.h"
#include "runtime/io/file.h"
#include "trainer/export/graph_builder.h"
#include "trainer/export/model_graph.h"
#include "trainer/export/protobuf.h"
#include "trainer/version.h"

namespace stemfabric {
namespace {

using Value = GraphBuilder::Value;

// Numbers of the fields and of the enumerations in onnx.proto.
namespace field {
constexpr int kModelIrVersion = 1, kModelProducer = 2, kModelProducerVersion = 3, kModelGraph = 7,
              kModelOpset = 8, kModelMetadata = 14;
constexpr int kOpsetDomain = 1, kOpsetVersion = 2;
constexpr int kGraphNode = 1, kGraphName = 2, kGraphInitializer = 5, kGraphInput = 11,
              kGraphOutput = 12;
constexpr int kNodeInput = 1, kNodeOutput = 2, kNodeName = 3, kNodeOp = 4, kNodeAttribute = 5;
constexpr int kAttributeName = 1, kAttributeFloat = 2, kAttributeInt = 3, kAttributeInts = 8,
              kAttributeType = 20;
constexpr int kTensorDims = 1, kTensorType = 2, kTensorName = 8, kTensorRaw = 9;
constexpr int kValueName = 1, kValueType = 2, kTypeTensor = 1, kElementType = 1, kTypeShape = 2,
              kShapeDim = 1, kDimValue = 1, kDimName = 2;
}  // namespace field
constexpr int kFloatType = 1, kInt64Type = 7;
constexpr int kAttributeIsFloat = 1, kAttributeIsInt = 2, kAttributeIsInts = 7;
constexpr int kIrVersion = 8, kOpset = 17;
constexpr std::size_t kLargestFile = (1ULL << 31) - 1;

ProtobufMessage float_attribute(const char* name, float value) {
  ProtobufMessage attribute;
  attribute.bytes(field::kAttributeName, name).number(field::kAttributeFloat, value);
  attribute.integer(field::kAttributeType, kAttributeIsFloat);
  return attribute;
}

ProtobufMessage int_attribute(const char* name, int64_t value) {
  ProtobufMessage attribute;
  attribute.bytes(field::kAttributeName, name).integer(field::kAttributeInt, value);
  attribute.integer(field::kAttributeType, kAttributeIsInt);
  return attribute;
}

ProtobufMessage ints_attribute(const char* name, std::span<const int64_t> values) {
  ProtobufMessage attribute;
  attribute.bytes(field::kAttributeName, name);
  for (const int64_t value : values) {
    attribute.integer(field::kAttributeInts, value);
  }
  attribute.integer(field::kAttributeType, kAttributeIsInts);
  return attribute;
}

// [batch, time] or [batch, time, columns], float32.
ProtobufMessage tensor_of_tokens(const std::string& name, int64_t columns) {
  ProtobufMessage shape;
  for (const char* open : {"batch", "time"}) {
    shape.message(field::kShapeDim, ProtobufMessage().bytes(field::kDimName, open));
  }
  if (columns > 0) {
    shape.message(field::kShapeDim, ProtobufMessage().integer(field::kDimValue, columns));
  }
  ProtobufMessage tensor;
  tensor.integer(field::kElementType, kFloatType).message(field::kTypeShape, shape);
  ProtobufMessage info;
  info.bytes(field::kValueName, name);
  info.message(field::kValueType, ProtobufMessage().message(field::kTypeTensor, tensor));
  return info;
}

// Rows are [batch, time, n].
class OnnxGraph final : public GraphBuilder {
 public:
  explicit OnnxGraph(const ModelConfig& config) : config_(config) {
    inputs_ = {tensor_of_tokens(kGraphFeatures, config.input_dim), tensor_of_tokens(kGraphMask, 0)};
  }

  void enter(const std::string& scope) override { scope_ = scope; }

  Value constant(const std::string& name, const ConstTensorView& values) override {
    return initializer(name, kFloatType, values.shape().dims(),
                       {static_cast<const char*>(values.data()), values.bytes()});
  }
  Value scalar(float value) override {
    return initializer(fmt::format("scalar.{}", value), kFloatType, {},
                       {reinterpret_cast<const char*>(&value), sizeof(value)});
  }
  Value features() override { return kGraphFeatures; }
  Value key_mask() override { return node("Unsqueeze", {kGraphMask, integers({1, 2})}); }

  Value unary(GraphUnary operation, const Value& x) override {
    static constexpr const char* kNames[] = {"Relu", "Sigmoid", "Tanh"};
    return node(kNames[static_cast<int>(operation)], {x});
  }
  Value binary(GraphBinary operation, const Value& a, const Value& b) override {
    static constexpr const char* kNames[] = {"Add", "Sub", "Mul", "Div"};
    return node(kNames[static_cast<int>(operation)], {a, b});
  }
  Value softmax(const Value& x) override {
    return node("Softmax", {x}, {int_attribute("axis", -1)});
  }
  Value sum(const Value& x) override {
    return node("ReduceSum", {x, integers({-1})}, {int_attribute("keepdims", 1)});
  }
  Value largest(const Value& x) override {
    const int64_t last[] = {-1};
    return node("ReduceMax", {x}, {ints_attribute("axes", last), int_attribute("keepdims", 1)});
  }
  Value layer_norm(const Value& rows, const Value& gamma, const Value& beta,
                   float epsilon) override {
    return node("LayerNormalization", {rows, gamma, beta},
                {int_attribute("axis", -1), float_attribute("epsilon", epsilon)});
  }

  Value product(const Value& rows, const Value& kernel) override {
    return node("MatMul", {rows, kernel});
  }
  Value first_rows(const Value& table) override {
    if (tokens_.empty()) {
      tokens_ =
          node("Shape", {kGraphFeatures}, {int_attribute("start", 1), int_attribute("end", 2)});
    }
    return node("Slice", {table, integers({0}), tokens_});
  }
  Value add_to_tokens(const Value& rows, const Value& table_rows) override {
    return node("Add", {rows, table_rows});
  }
  Value split_heads(const Value& rows) override {
    const Value split =
        node("Reshape", {rows, integers({0, 0, config_.heads, config_.dim / config_.heads})});
    return transposed(split, {0, 2, 1, 3});
  }
  Value join_heads(const Value& heads) override {
    return node("Reshape", {transposed(heads, {0, 2, 1, 3}), integers({0, 0, config_.dim})});
  }
  Value columns(const Value& heads, int64_t begin, int64_t count) override {
    return node("Slice", {heads, integers({begin}), integers({begin + count}), integers({3})});
  }
  Value beside(const Value& left, const Value& right) override {
    return node("Concat", {left, right}, {int_attribute("axis", 3)});
  }
  Value scores(const Value& q, const Value& k) override {
    return node("MatMul", {q, transposed(k, {0, 1, 3, 2})});
  }
  Value weighted(const Value& weights, const Value& v) override {
    return node("MatMul", {weights, v});
  }
  void output(const std::string& name, const Value& rows) override {
    append_node("Identity", {rows}, {}, name);
    outputs_.push_back(tensor_of_tokens(name, config_.output_dim));
  }

  ProtobufMessage finished() const {
    ProtobufMessage graph;
    for (const auto& [number, messages] : {std::pair{field::kGraphNode, &nodes_},
                                           {field::kGraphInitializer, &initializers_},
                                           {field::kGraphInput, &inputs_},
                                           {field::kGraphOutput, &outputs_}}) {
      for (const ProtobufMessage& message : *messages) {
        graph.message(number, message);
      }
    }
    graph.bytes(field::kGraphName, "stemfabric");
    return graph;
  }

 private:
  Value transposed(const Value& x, std::initializer_list<int64_t> permutation) {
    return node("Transpose", {x},
                {ints_attribute("perm", {permutation.begin(), permutation.size()})});
  }

  Value integers(const std::vector<int64_t>& values) {
    const int64_t count = static_cast<int64_t>(values.size());
    return initializer(
        name_of_integers(values), kInt64Type, {&count, 1},
        {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(int64_t)});
  }

  // Under a name that is taken already lie the same values.
  Value initializer(const std::string& name, int type, std::span<const int64_t> dims,
                    std::string_view values) {
    if (constants_.insert(name).second) {
      ProtobufMessage& tensor = initializers_.emplace_back();
      for (const int64_t size : dims) {
        tensor.integer(field::kTensorDims, size);
      }
      tensor.integer(field::kTensorType, type).bytes(field::kTensorName, name);
      tensor.bytes(field::kTensorRaw, values);
    }
    return name;
  }

  Value node(const std::string& operation, const std::vector<Value>& inputs,
             const std::vector<ProtobufMessage>& attributes = {}) {
    std::string name = fmt::format("{}/{}", scope_, operation);
    const int earlier = used_[name]++;
    if (earlier > 0) {
      name += fmt::format("_{}", earlier);
    }
    append_node(operation, inputs, attributes, name);
    return name;
  }

  void append_node(const std::string& operation, const std::vector<Value>& inputs,
                   const std::vector<ProtobufMessage>& attributes, const std::string& name) {
    ProtobufMessage& node = nodes_.emplace_back();
    for (const Value& input : inputs) {
      node.bytes(field::kNodeInput, input);
    }
    node.bytes(field::kNodeOutput, name).bytes(field::kNodeName, name);
    node.bytes(field::kNodeOp, operation);
    for (const ProtobufMessage& attribute : attributes) {
      node.message(field::kNodeAttribute, attribute);
    }
  }

  const ModelConfig& config_;
  std::string scope_;
  std::map<std::string, int> used_;  // names of nodes
  std::set<std::string> constants_;
  Value tokens_;  // [T]
  std::vector<ProtobufMessage> nodes_, initializers_, inputs_, outputs_;
};

}  // namespace

void write_onnx(const std::filesystem::path& path, const ModelWeights& weights) {
  OnnxGraph graph(weights.config());
  build_model_graph(weights, graph);
  ProtobufMessage model;
  model.integer(field::kModelIrVersion, kIrVersion);
  model.bytes(field::kModelProducer, "stemfabric").bytes(field::kModelProducerVersion, version());
  model.message(field::kModelGraph, graph.finished());
  model.message(
      field::kModelOpset,
      ProtobufMessage().bytes(field::kOpsetDomain, "").integer(field::kOpsetVersion, kOpset));
  model.message(field::kModelMetadata,
                ProtobufMessage().bytes(1, "stemfabric").bytes(2, graph_metadata(weights)));
  const std::string& bytes = model.encoded();
  if (bytes.size() > kLargestFile) {
    throw InputError(
        "{} would take {} bytes, but an ONNX file ends at 2 GiB; leave onnx out of --format",
        path.string(), bytes.size());
  }
  write_text_file(path, bytes);
}

}  // namespace stemfabric
