#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "runtime/core/check.h"
#include "runtime/core/dtype.h"
#include "runtime/io/file.h"
#include "trainer/export/evaluator/evaluators.h"
#include "trainer/export/evaluator/graph.h"
#include "trainer/export/evaluator/open_file.h"

namespace stemfabric::evaluator {
namespace {

using Json = nlohmann::ordered_json;  // the order of the outputs has a meaning

constexpr const char* kFeatures = "stem_features";
constexpr const char* kMask = "mask";

// protobuf's JSON form writes 64-bit integers as text; numbers are allowed too.
int64_t integer(const Json& value) {
  if (value.is_number_integer()) {
    return value.get<int64_t>();
  }
  const std::string& text = value.get_ref<const std::string&>();
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw InputError("'{}' is no integer", text);
  }
  return number;
}

Sizes shape_of(const Json& message) {
  Sizes shape;
  for (const Json& dim : message.value("dim", Json::array())) {
    shape.push_back(integer(dim.at("size")));
  }
  return shape;
}

// "vocals:0" -> "vocals". All operations here have one output.
std::string node_of(const std::string& tensor) {
  return tensor.ends_with(":0") ? tensor.substr(0, tensor.size() - 2) : tensor;
}

Node read_node(const Json& json) {
  Node node;
  node.name = json.at("name").get<std::string>();
  node.output = node.name;
  node.operation = json.at("op").get<std::string>();
  for (const Json& input : json.value("input", Json::array())) {
    node.inputs.push_back(node_of(input.get<std::string>()));
  }
  for (const auto& [name, value] : json.at("attr").items()) {
    if (value.contains("i")) {
      node.integers[name] = {integer(value.at("i"))};
    } else if (value.contains("b")) {
      node.integers[name] = {value.at("b").get<bool>() ? 1 : 0};
    } else if (value.contains("shape")) {
      node.integers[name] = shape_of(value.at("shape"));
    }
  }
  return node;
}

// The bytes of all shards of a group, one after the other.
std::string read_shards(const std::filesystem::path& folder, const Json& group) {
  std::string bytes;
  for (const Json& path : group.at("paths")) {
    const auto name = path.get<std::string>();
    if (name.empty() || name.find('/') != name.npos || name == "..") {
      throw InputError("the shard '{}' lies in another folder", name);
    }
    bytes += read_text_file(folder / name);
  }
  return bytes;
}

// The first `count` values of type T, which are taken away.
template <typename T>
std::vector<T> take(std::string_view& bytes, std::size_t count) {
  if (count * sizeof(T) > bytes.size()) {
    throw InputError("its {} bytes go beyond the end of the shards", count * sizeof(T));
  }
  std::vector<T> values(count);
  std::memcpy(values.data(), bytes.data(), count * sizeof(T));
  bytes.remove_prefix(count * sizeof(T));
  return values;
}

// Packed weights, as TensorFlow.js unpacks them.
std::vector<float> take_packed(const Json& packing, std::string_view& bytes, std::size_t count) {
  const auto type = packing.at("dtype").get<std::string>();
  std::vector<float> values;
  if (type == "float16") {
    for (const uint16_t half : take<uint16_t>(bytes, count)) {
      values.push_back(float_from_f16(half));
    }
  } else if (type == "uint8") {
    const auto scale = packing.at("scale").get<double>();
    const auto min = packing.at("min").get<double>();
    for (const uint8_t level : take<uint8_t>(bytes, count)) {
      values.push_back(static_cast<float>(level * scale + min));
    }
  } else {
    throw InputError("it is packed as {}, neither float16 nor uint8", type);
  }
  return values;
}

Array read_weight(const Json& entry, std::string_view& bytes) {
  const auto type = entry.at("dtype").get<std::string>();
  const auto shape = entry.at("shape").get<Sizes>();
  const auto count = static_cast<std::size_t>(elements_of(shape));
  if (type == "int32") {
    const std::vector<int32_t> integers = take<int32_t>(bytes, count);
    return Array::of_integers(shape, {integers.begin(), integers.end()});
  }
  if (type != "float32") {
    throw InputError("its dtype is {}, neither float32 nor int32", type);
  }
  const auto packing = entry.find("quantization");
  return Array::of(shape, packing == entry.end() ? take<float>(bytes, count)
                                                 : take_packed(*packing, bytes, count));
}

std::map<std::string, Array> read_weights(const std::filesystem::path& folder, const Json& model) {
  std::map<std::string, Array> weights;
  for (const Json& group : model.at("weightsManifest")) {
    const std::string shards = read_shards(folder, group);
    std::string_view rest = shards;
    for (const Json& entry : group.at("weights")) {
      const auto name = entry.at("name").get<std::string>();
      try {
        if (!weights.emplace(name, read_weight(entry, rest)).second) {
          throw InputError("it is there twice");
        }
      } catch (const InputError& error) {
        throw InputError("weight '{}': {}", name, error.what());
      }
    }
    if (!rest.empty()) {
      throw InputError("the shards hold {} bytes too many", rest.size());
    }
  }
  return weights;
}

struct TfjsModel {
  Graph graph;
  std::map<std::string, std::string> outputs;  // key of the signature -> node
  std::map<std::string, Sizes> placeholders;   // open sizes are −1
  std::map<std::string, Array> defaults;       // of the placeholders that may be left out
};

// The nodes in an order in which each comes behind its inputs; the file may have any.
std::vector<Node> ordered(std::vector<Node> nodes, std::set<std::string> known) {
  std::vector<Node> result;
  while (!nodes.empty()) {
    std::vector<Node> waiting;
    const std::size_t before = result.size();
    for (Node& node : nodes) {
      const bool ready = std::ranges::all_of(
          node.inputs, [&](const std::string& input) { return known.contains(input); });
      if (ready) {
        known.insert(node.name);
      }
      (ready ? result : waiting).push_back(std::move(node));
    }
    if (result.size() == before) {
      throw InputError("node '{}' reads nodes that are not there, or itself", waiting[0].name);
    }
    nodes = std::move(waiting);
  }
  return result;
}

// A Const's node and its entry in the manifest must say the same.
void check_constant(const Json& node, const std::map<std::string, Array>& weights) {
  const auto name = node.at("name").get<std::string>();
  const auto weight = weights.find(name);
  if (weight == weights.end()) {
    throw InputError("Const '{}' has no weight", name);
  }
  const Json& tensor = node.at("attr").at("value").at("tensor");
  const bool is_integer = tensor.at("dtype") == "DT_INT32";
  if (shape_of(tensor.at("tensorShape")) != weight->second.shape ||
      is_integer != weight->second.is_integer) {
    throw InputError("Const '{}' and its weight differ in shape or type", name);
  }
}

void read_placeholder(const Json& entry, const Node& node, TfjsModel& model) {
  if (entry.at("attr").at("dtype").at("type") != "DT_FLOAT") {
    throw InputError("the placeholder '{}' takes no floats", node.name);
  }
  model.placeholders[node.name] = node.integers_of("shape");
  model.graph.inputs.push_back(node.name);
  if (node.operation != "PlaceholderWithDefault") {
    return;
  }
  const auto value = node.inputs.size() == 1 ? model.graph.constants.find(node.inputs.front())
                                             : model.graph.constants.end();
  if (value == model.graph.constants.end()) {
    throw InputError("the default of '{}' is no constant", node.name);
  }
  model.defaults[node.name] = value->second;
}

// predict(x) gives x to the inputs of the signature, which must be the features alone, and names
// its results, in the order of the signature's outputs, by structuredOutputKeys.
void read_signature(const Json& json, TfjsModel& model) {
  const Json& signature = json.at("signature");
  const Json& inputs = signature.at("inputs");
  if (inputs.size() != 1 || node_of(inputs.front().at("name").get<std::string>()) != kFeatures) {
    throw InputError("the signature's inputs are not '{}' alone", kFeatures);
  }
  const auto keys =
      json.at("userDefinedMetadata").at("structuredOutputKeys").get<std::vector<std::string>>();
  std::vector<std::string> names;
  for (const auto& [key, tensor] : signature.at("outputs").items()) {
    names.push_back(key);
    model.outputs[key] = node_of(tensor.at("name").get<std::string>());
    model.graph.outputs.push_back(model.outputs[key]);
  }
  if (keys != names) {
    throw InputError("structuredOutputKeys are not the signature's outputs in their order");
  }
}

TfjsModel read_model(const std::filesystem::path& folder) {
  const Json json = Json::parse(read_text_file(folder / "model.json"));
  TfjsModel model;
  model.graph.constants = read_weights(folder, json);
  std::set<std::string> known;
  std::set<std::string> constants;
  std::vector<Node> nodes;
  json.at("modelTopology").at("versions");  // the loader of TensorFlow.js needs it
  for (const Json& entry : json.at("modelTopology").at("node")) {
    Node node = read_node(entry);
    if (!known.insert(node.name).second) {
      throw InputError("two nodes are named '{}'", node.name);
    }
    if (node.operation == "Const") {
      check_constant(entry, model.graph.constants);
      constants.insert(node.name);
    } else if (node.operation.starts_with("Placeholder")) {
      read_placeholder(entry, node, model);
    } else {
      nodes.push_back(std::move(node));
    }
  }
  std::set<std::string> given = constants;
  given.insert(model.graph.inputs.begin(), model.graph.inputs.end());
  model.graph.nodes = ordered(std::move(nodes), given);
  read_signature(json, model);
  return model;
}

const Sizes& integers_of(const Array& x) {
  if (!x.is_integer || x.shape.size() > 1) {
    throw InputError("an array {} where integers are wanted", to_string(x.shape));
  }
  return x.integers;
}

int64_t integer_of(const Array& x) {
  if (!x.is_integer || !x.shape.empty()) {
    throw InputError("an array {} where one integer is wanted", to_string(x.shape));
  }
  return x.integers.front();
}

// Slice: size −1 goes to the end; beyond the end is an error.
Array sliced(const Operands& in) {
  const Sizes& begin = integers_of(*in[1]);
  Sizes size = integers_of(*in[2]);
  for (std::size_t i = 0; i < size.size() && i < begin.size() && i < in[0]->shape.size(); ++i) {
    size[i] = size[i] == -1 ? in[0]->shape[i] - begin[i] : size[i];
  }
  return slice(*in[0], begin, size);
}

// StridedSlice of a vector, in steps of 1 and without any mask.
Array strided(const Node& node, const Operands& in) {
  for (const char* mask :
       {"begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask"}) {
    if (node.integer_of(mask) != 0) {
      throw InputError("the attribute {} is not 0", mask);
    }
  }
  const Sizes& begin = integers_of(*in[1]);
  const Sizes& end = integers_of(*in[2]);
  if (integers_of(*in[3]) != Sizes{1} || begin.size() != 1 || end.size() != 1) {
    throw InputError("only slices of vectors in steps of 1 are known");
  }
  return slice(*in[0], begin, {end[0] - begin[0]});
}

void check_reduction(const Node& node, const Operands& in) {
  check_count(node, in, 2, 2);
  check_last_axis(integers_of(*in[1]), *in[0], node.integer_of("keep_dims"));
}

float reciprocal_root(float x) { return 1.0F / std::sqrt(x); }
float squared_difference(float a, float b) { return (a - b) * (a - b); }

Operations element_operations() {
  Operations table = common_operations();
  add_unary(table, "Rsqrt", reciprocal_root);
  add_binary(table, "AddV2", std::plus<>());
  add_binary(table, "RealDiv", std::divides<>());
  add_binary(table, "SquaredDifference", squared_difference);
  return table;
}

void add_reductions(Operations& table) {
  table["Softmax"] = [](const Node& node, const Operands& in) {
    check_count(node, in, 1, 1);
    return softmax(*in[0]);
  };
  table["Mean"] = [](const Node& node, const Operands& in) {
    check_reduction(node, in);
    return mean(*in[0]);
  };
  table["Sum"] = [](const Node& node, const Operands& in) {
    check_reduction(node, in);
    return reduce(*in[0], std::plus<>());
  };
  table["Max"] = [](const Node& node, const Operands& in) {
    check_reduction(node, in);
    return reduce(*in[0], larger);
  };
  table["MatMul"] = [](const Node& node, const Operands& in) {
    check_count(node, in, 2, 2);
    if (node.integer_of("transpose_a") != 0 || in[0]->shape.size() != 2 ||
        in[1]->shape.size() != 2) {
      throw InputError("only products of matrices are known, the first not transposed");
    }
    return product(*in[0], *in[1], node.integer_of("transpose_b") != 0);
  };
  table["BatchMatMulV2"] = [](const Node& node, const Operands& in) {
    check_count(node, in, 2, 2);
    if (node.integer_of("adj_x") != 0) {
      throw InputError("adj_x is not known");
    }
    return product(*in[0], *in[1], node.integer_of("adj_y") != 0);
  };
}

void add_shapes(Operations& table) {
  table["Shape"] = [](const Node& node, const Operands& in) {
    check_count(node, in, 1, 1);
    return Array::of_integers({static_cast<int64_t>(in[0]->shape.size())}, in[0]->shape);
  };
  table["StridedSlice"] = [](const Node& node, const Operands& in) {
    check_count(node, in, 4, 4);
    return strided(node, in);
  };
  table["Slice"] = [](const Node& node, const Operands& in) {
    check_count(node, in, 3, 3);
    return sliced(in);
  };
  table["Reshape"] = [](const Node& node, const Operands& in) {
    check_count(node, in, 2, 2);
    return reshape(*in[0], integers_of(*in[1]));
  };
  table["Transpose"] = [](const Node& node, const Operands& in) {
    check_count(node, in, 2, 2);
    return transpose(*in[0], integers_of(*in[1]));
  };
  table["ExpandDims"] = [](const Node& node, const Operands& in) {
    check_count(node, in, 2, 2);
    return expand(*in[0], {integer_of(*in[1])});
  };
  table["ConcatV2"] = [](const Node& node, const Operands& in) {
    check_count(node, in, 2, 64);
    const Operands parts(in.begin(), in.end() - 1);
    if (static_cast<int64_t>(parts.size()) != node.integer_of("N")) {
      throw InputError("{} parts, but N is {}", parts.size(), node.integer_of("N"));
    }
    return concatenate(parts, integer_of(*in.back()));
  };
}

const Operations& tfjs_operations() {
  static const Operations table = [] {
    Operations all = element_operations();
    add_reductions(all);
    add_shapes(all);
    return all;
  }();
  return table;
}

StemOutputs run_with(const TfjsModel& model, const std::map<std::string, Array>& feeds) {
  for (const auto& [name, feed] : feeds) {
    const auto placeholder = model.placeholders.find(name);
    if (placeholder == model.placeholders.end()) {
      throw InputError("there is no placeholder '{}'", name);
    }
    check_declared(name, feed, placeholder->second);
  }
  auto values = run(model.graph, tfjs_operations(), feeds);
  StemOutputs outputs;
  for (const auto& [key, node] : model.outputs) {
    outputs[key] = values.at(node);
  }
  return outputs;
}

// Whether all tokens of sample b are present.
bool is_whole(const Array& mask, int64_t b) {
  const auto* tokens = mask.values.data() + b * mask.last();
  return std::all_of(tokens, tokens + mask.last(), [](float present) { return present == 1.0F; });
}

// Samples without padding must come out alike whether their mask is given or left out.
void check_default_mask(const TfjsModel& model, const Array& features, const Array& mask,
                        const StemOutputs& masked) {
  const auto all = model.defaults.find(kMask);
  if (all == model.defaults.end()) {
    throw InputError("the placeholder '{}' has no default", kMask);
  }
  const StemOutputs unmasked = run_with(model, {{kFeatures, features}, {kMask, all->second}});
  const auto alike = [](float a, float b) { return a == b || (std::isnan(a) && std::isnan(b)); };
  for (const auto& [stem, outputs] : masked) {
    const int64_t count = outputs.size() / mask.shape[0];
    for (int64_t b = 0; b < mask.shape[0]; ++b) {
      const float* with = outputs.values.data() + b * count;
      const float* without = unmasked.at(stem).values.data() + b * count;
      if (is_whole(mask, b) && !std::equal(with, with + count, without, alike)) {
        throw InputError("without '{}', '{}' is another than with a mask of ones", kMask, stem);
      }
    }
  }
}

StemOutputs evaluate(const TfjsModel& model, const Array& features, const Array& mask) {
  StemOutputs outputs = run_with(model, {{kFeatures, features}, {kMask, mask}});
  check_default_mask(model, features, mask, outputs);
  return outputs;
}

}  // namespace

Evaluator open_tfjs(const std::filesystem::path& folder) {
  const auto read = [folder] {
    try {
      return read_model(folder);
    } catch (const Json::exception& error) {
      throw InputError("is no graph model: {}", error.what());
    }
  };
  return open_file((folder / "model.json").string(), read, evaluate);
}

}  // namespace stemfabric::evaluator
