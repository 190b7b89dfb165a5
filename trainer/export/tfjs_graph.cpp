#include "trainer/export/tfjs_graph.h"

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "runtime/core/check.h"
#include "runtime/io/file.h"
#include "trainer/export/graph_builder.h"
#include "trainer/export/model_graph.h"
#include "trainer/stems.h"
#include "trainer/version.h"

namespace stemfabric {
namespace {

using Json = nlohmann::ordered_json;
using Value = GraphBuilder::Value;

constexpr std::size_t kShardBytes = 4U << 20;

Json float_type() { return {{"type", "DT_FLOAT"}}; }
Json int_type() { return {{"type", "DT_INT32"}}; }

Json int_attribute(int64_t value) { return {{"i", std::to_string(value)}}; }
Json bool_attribute(bool value) { return {{"b", value}}; }

// Of a protobuf TensorShape; a scalar's is empty. −1 is an open size.
Json shape_message(const std::vector<int64_t>& sizes) {
  Json shape = Json::object();
  for (const int64_t size : sizes) {
    shape["dim"].push_back({{"size", std::to_string(size)}});
  }
  return shape;
}

// Rows are [B·T, n]: reshaping costs nothing, and a MatMul of rank 2 is quick on every backend.
class TfjsGraph final : public GraphBuilder {
 public:
  TfjsGraph(const ModelConfig& config, WebWeights kind) : config_(config), kind_(kind) {
    append("Placeholder", {}, {{"dtype", float_type()}, {"shape", {{"shape", input_shape()}}}},
           kGraphFeatures);
    const float one = 1.0F;
    const Value all = constant("mask.default", {&one, Shape{1, 1}});
    append("PlaceholderWithDefault", {all},
           {{"dtype", float_type()}, {"shape", {{"shape", shape_message({-1, -1})}}}}, kGraphMask);
    enter("sizes");
    const Value shape =
        node("Shape", {kGraphFeatures}, {{"T", float_type()}, {"out_type", int_type()}});
    samples_and_tokens_ = strided_slice(shape, 0, 2);
    tokens_ = strided_slice(shape, 1, 2);
  }

  void enter(const std::string& scope) override { scope_ = scope; }

  Value constant(const std::string& name, const ConstTensorView& values) override {
    const auto dims = values.shape().dims();
    const std::vector<int64_t> shape(dims.begin(), dims.end());
    if (kind_ == WebWeights::kFp32 || !is_packed(name)) {
      return weight(name, "float32", shape, values.data(), values.bytes());
    }
    const auto count = static_cast<std::size_t>(values.elements());
    const PackedWeights packed = pack_weights({values.as<float>(), count}, kind_);
    if (!constants_.contains(name)) {
      weight(name, "float32", shape, packed.bytes.data(), packed.bytes.size());
      manifest_.back()["quantization"] = quantization(packed);
    }
    return name;
  }
  Value scalar(float value) override {
    return weight(fmt::format("scalar.{}", value), "float32", {}, &value, sizeof(value));
  }
  Value features() override { return reshaped(kGraphFeatures, integers({-1, config_.input_dim})); }
  Value key_mask() override {
    Value mask = kGraphMask;
    for (int i = 0; i < 2; ++i) {
      mask = node("ExpandDims", {mask, integer(1)}, {{"T", float_type()}, {"Tdim", int_type()}});
    }
    return mask;
  }

  Value unary(GraphUnary operation, const Value& x) override {
    static constexpr const char* kNames[] = {"Relu", "Sigmoid", "Tanh"};
    return node(kNames[static_cast<int>(operation)], {x}, {{"T", float_type()}});
  }
  Value binary(GraphBinary operation, const Value& a, const Value& b) override {
    static constexpr const char* kNames[] = {"AddV2", "Sub", "Mul", "RealDiv"};
    return node(kNames[static_cast<int>(operation)], {a, b}, {{"T", float_type()}});
  }
  Value softmax(const Value& x) override { return node("Softmax", {x}, {{"T", float_type()}}); }
  Value sum(const Value& x) override { return reduced("Sum", x); }
  Value largest(const Value& x) override { return reduced("Max", x); }
  Value layer_norm(const Value& rows, const Value& gamma, const Value& beta,
                   float epsilon) override {
    const Value mean = reduced("Mean", rows);
    const Value variance =
        reduced("Mean", node("SquaredDifference", {rows, mean}, {{"T", float_type()}}));
    const Value rstd = node("Rsqrt", {binary(GraphBinary::kAdd, variance, scalar(epsilon))},
                            {{"T", float_type()}});
    const Value normed =
        binary(GraphBinary::kMultiply, binary(GraphBinary::kSubtract, rows, mean), rstd);
    return binary(GraphBinary::kAdd, binary(GraphBinary::kMultiply, normed, gamma), beta);
  }

  Value product(const Value& rows, const Value& kernel) override {
    return node("MatMul", {rows, kernel},
                {{"T", float_type()},
                 {"transpose_a", bool_attribute(false)},
                 {"transpose_b", bool_attribute(false)}});
  }
  Value first_rows(const Value& table) override {
    return slice(table, {0, 0}, joined({tokens_, integers({-1})}, 0, int_type()));
  }
  Value add_to_tokens(const Value& rows, const Value& table_rows) override {
    return flat(binary(GraphBinary::kAdd, by_tokens(rows, {config_.dim}), table_rows));
  }
  Value split_heads(const Value& rows) override {
    return transposed(by_tokens(rows, {config_.heads, config_.dim / config_.heads}));
  }
  Value join_heads(const Value& heads) override { return flat(transposed(heads)); }
  Value columns(const Value& heads, int64_t begin, int64_t count) override {
    return slice(heads, {0, 0, 0, begin}, integers({-1, -1, -1, count}));
  }
  Value beside(const Value& left, const Value& right) override {
    return joined({left, right}, 3, float_type());
  }
  Value scores(const Value& q, const Value& k) override { return batch_product(q, k, true); }
  Value weighted(const Value& weights, const Value& v) override {
    return batch_product(weights, v, false);
  }
  void output(const std::string& name, const Value& rows) override {
    append("Identity", {by_tokens(rows, {config_.output_dim})}, {{"T", float_type()}}, name);
    outputs_[name] = {{"name", name + ":0"},
                      {"dtype", "DT_FLOAT"},
                      {"tensorShape", shape_message({-1, -1, config_.output_dim})}};
  }

  void write(const std::filesystem::path& folder, const std::string& metadata) const {
    const auto [paths, hashes] = write_shards(folder);
    Json described = Json::parse(metadata);
    described["shards_sha256"] = hashes;
    const Json features = {{"name", std::string(kGraphFeatures) + ":0"},
                           {"dtype", "DT_FLOAT"},
                           {"tensorShape", input_shape()}};
    const Json model = {
        {"format", "graph-model"},
        {"generatedBy", fmt::format("stemfabric {}", version())},
        {"convertedBy", fmt::format("stemfabric {}", version())},
        // The mask is left out on purpose: predict(x) would miss it.
        {"signature", {{"inputs", {{kGraphFeatures, features}}}, {"outputs", outputs_}}},
        {"userDefinedMetadata", {{"structuredOutputKeys", kStemNames}, {"stemfabric", described}}},
        {"modelTopology",
         {{"node", nodes_},
          {"library", Json::object()},
          {"versions", {{"producer", 1395}, {"minConsumer", 12}}}}},
        {"weightsManifest", Json::array({Json{{"paths", paths}, {"weights", manifest_}}})}};
    write_text_file(folder / "model.json", model.dump());
  }

 private:
  Json input_shape() const { return shape_message({-1, -1, config_.input_dim}); }

  Value integers(const std::vector<int64_t>& values) {
    return int_weight(name_of_integers(values), {static_cast<int64_t>(values.size())}, values);
  }
  Value integer(int64_t value) { return int_weight(fmt::format("integer.{}", value), {}, {value}); }

  // How the manifest says what the bytes of packed weights are.
  Json quantization(const PackedWeights& packed) const {
    if (kind_ == WebWeights::kFp16) {
      return {{"dtype", "float16"}, {"original_dtype", "float32"}};
    }
    return {{"dtype", "uint8"},
            {"scale", packed.scale},
            {"min", packed.min},
            {"original_dtype", "float32"}};
  }

  Value int_weight(const std::string& name, const std::vector<int64_t>& shape,
                   const std::vector<int64_t>& values) {
    const std::vector<int32_t> narrow(values.begin(), values.end());
    return weight(name, "int32", shape, narrow.data(), narrow.size() * sizeof(int32_t));
  }

  // A constant: its node says type and shape, the manifest the same, the shards hold the values.
  // Under a name that is taken already lie the same values.
  Value weight(const std::string& name, const char* type, const std::vector<int64_t>& shape,
               const void* values, std::size_t bytes) {
    if (!constants_.insert(name).second) {
      return name;
    }
    const bool is_float = std::string_view(type) == "float32";
    append("Const", {},
           {{"dtype", is_float ? float_type() : int_type()},
            {"value",
             {{"tensor",
               {{"dtype", is_float ? "DT_FLOAT" : "DT_INT32"},
                {"tensorShape", shape_message(shape)}}}}}},
           name);
    manifest_.push_back({{"name", name}, {"shape", shape}, {"dtype", type}});
    data_.append(static_cast<const char*>(values), bytes);
    return name;
  }

  Value strided_slice(const Value& x, int64_t begin, int64_t end) {
    Json attributes = {{"T", int_type()}, {"Index", int_type()}};
    for (const char* mask :
         {"begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask"}) {
      attributes[mask] = int_attribute(0);
    }
    return node("StridedSlice", {x, integers({begin}), integers({end}), integers({1})}, attributes);
  }
  Value slice(const Value& x, const std::vector<int64_t>& begin, const Value& size) {
    return node("Slice", {x, integers(begin), size}, {{"T", float_type()}, {"Index", int_type()}});
  }
  Value joined(std::vector<Value> parts, int64_t axis, const Json& type) {
    const Json count = int_attribute(static_cast<int64_t>(parts.size()));
    parts.push_back(integer(axis));
    return node("ConcatV2", parts, {{"N", count}, {"T", type}, {"Tidx", int_type()}});
  }
  Value reshaped(const Value& x, const Value& shape) {
    return node("Reshape", {x, shape}, {{"T", float_type()}, {"Tshape", int_type()}});
  }
  Value flat(const Value& x) { return reshaped(x, integers({-1, config_.dim})); }
  // Rows as [B, T, sizes…].
  Value by_tokens(const Value& rows, const std::vector<int64_t>& sizes) {
    Value& shape = shapes_[sizes];
    if (shape.empty()) {
      shape = joined({samples_and_tokens_, integers(sizes)}, 0, int_type());
    }
    return reshaped(rows, shape);
  }
  Value transposed(const Value& x) {  // tokens and heads change places
    return node("Transpose", {x, integers({0, 2, 1, 3})},
                {{"T", float_type()}, {"Tperm", int_type()}});
  }
  Value reduced(const char* operation, const Value& x) {
    return node(operation, {x, integers({-1})},
                {{"T", float_type()}, {"Tidx", int_type()}, {"keep_dims", bool_attribute(true)}});
  }
  Value batch_product(const Value& a, const Value& b, bool transpose_b) {
    return node("BatchMatMulV2", {a, b},
                {{"T", float_type()},
                 {"adj_x", bool_attribute(false)},
                 {"adj_y", bool_attribute(transpose_b)}});
  }

  Value node(const std::string& operation, const std::vector<Value>& inputs,
             const Json& attributes) {
    std::string name = fmt::format("{}/{}", scope_, operation);
    const int earlier = used_[name]++;
    if (earlier > 0) {
      name += fmt::format("_{}", earlier);
    }
    append(operation, inputs, attributes, name);
    return name;
  }

  void append(const std::string& operation, const std::vector<Value>& inputs,
              const Json& attributes, const std::string& name) {
    Json entry = {{"name", name}, {"op", operation}};
    if (!inputs.empty()) {
      entry["input"] = inputs;
    }
    entry["attr"] = attributes;
    nodes_.push_back(std::move(entry));
  }

  // Names and hashes of the files.
  std::pair<std::vector<std::string>, std::vector<std::string>> write_shards(
      const std::filesystem::path& folder) const {
    const std::size_t count = (data_.size() + kShardBytes - 1) / kShardBytes;
    std::pair<std::vector<std::string>, std::vector<std::string>> result;
    for (std::size_t i = 0; i < count; ++i) {
      const std::string name = fmt::format("group1-shard{}of{}.bin", i + 1, count);
      const std::string_view part = std::string_view(data_).substr(i * kShardBytes, kShardBytes);
      write_text_file(folder / name, part);
      result.first.push_back(name);
      Sha256 hash;
      hash.update(part);
      result.second.push_back(hash.hex());
    }
    return result;
  }

  const ModelConfig& config_;
  WebWeights kind_;
  std::string scope_;
  std::map<std::string, int> used_;  // names of nodes
  std::set<std::string> constants_;
  std::map<std::vector<int64_t>, Value> shapes_;  // [B, T, sizes…] by sizes
  Value samples_and_tokens_, tokens_;             // [B, T] and [T]
  Json nodes_ = Json::array(), manifest_ = Json::array(), outputs_;
  std::string data_;
};

}  // namespace

void write_tfjs(const std::filesystem::path& folder, const ModelWeights& weights, WebWeights kind) {
  TfjsGraph graph(weights.config(), kind);
  build_model_graph(weights, graph);
  graph.write(folder, graph_metadata(weights));
}

}  // namespace stemfabric
