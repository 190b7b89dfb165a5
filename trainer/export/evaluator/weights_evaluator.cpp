// The formulas of docs/model.md, step by step, on weights that were read from a file.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "runtime/core/check.h"
#include "runtime/io/hdf5.h"
#include "runtime/io/safetensors.h"
#include "trainer/export/evaluator/open_file.h"
#include "trainer/stems.h"

namespace stemfabric::evaluator {
namespace {

using Json = nlohmann::json;

// A model as a file describes it; parameters by their names in docs/weights.md.
struct Formula {
  int64_t depth = 0;
  int64_t heads = 0;
  int64_t longest = 0;  // max_sequence_length
  float epsilon = 0.0F;
  bool pre_norm = false;
  std::string positions;
  double rotary_base = 0.0;
  std::string activation;
  float alpha = 0.0F, beta = 0.0F, gamma = 0.0F;
  std::map<std::string, Array> parameters;

  const Array& parameter(const std::string& name) const {
    const auto found = parameters.find(name);
    if (found == parameters.end()) {
      throw InputError("the weights '{}' are missing", name);
    }
    return found->second;
  }
};

float quantum(float r) { return 0.4F * sigmoid(r) + 0.4F * std::tanh(r) + 0.2F * r; }

Array add(const Array& a, const Array& b) { return combine(a, b, std::plus<>()); }

Array dense(const Formula& model, const std::string& layer, const Array& x) {
  return add(product(x, model.parameter(layer + ".kernel"), false),
             model.parameter(layer + ".bias"));
}

Array norm(const Formula& model, const std::string& layer, const Array& x) {
  return layer_norm(x, model.parameter(layer + ".gamma"), model.parameter(layer + ".beta"),
                    model.epsilon);
}

// [B, T, dim] -> [B, H, T, D]
Array split(const Array& x, int64_t heads) {
  return transpose(reshape(x, {x.shape[0], x.shape[1], heads, x.shape[2] / heads}), {0, 2, 1, 3});
}

// Pair (i, i + D/2) of token t is turned by t · base^(−2i/D).
Array turned(const Array& x, double base) {
  Array out = x;
  const int64_t tokens = x.shape[2];
  const int64_t columns = x.shape[3];
  const int64_t pairs = columns / 2;
  for (int64_t row = 0; row < x.size() / columns; ++row) {
    for (int64_t i = 0; i < pairs; ++i) {
      const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(columns);
      const double angle = static_cast<double>(row % tokens) * std::pow(base, exponent);
      const auto at = static_cast<std::size_t>(row * columns + i);
      const auto other = at + static_cast<std::size_t>(pairs);
      const double a = x.values[at];
      const double b = x.values[other];
      out.values[at] = static_cast<float>(a * std::cos(angle) - b * std::sin(angle));
      out.values[other] = static_cast<float>(a * std::sin(angle) + b * std::cos(angle));
    }
  }
  return out;
}

// Softmax of one row over the keys that are present; 0 elsewhere.
void softmax_present(float* row, const float* present, int64_t keys) {
  float largest = -INFINITY;
  for (int64_t j = 0; j < keys; ++j) {
    largest = present[j] != 0.0F ? std::max(largest, row[j]) : largest;
  }
  float sum = 0.0F;
  for (int64_t j = 0; j < keys; ++j) {
    row[j] = present[j] != 0.0F ? std::exp(row[j] - largest) : 0.0F;
    sum += row[j];
  }
  for (int64_t j = 0; j < keys && sum > 0.0F; ++j) {
    row[j] /= sum;
  }
}

// G of docs/attention.md for one row of A; 0 at keys that are not present.
void attention_weights(const Formula& model, float* a, const float* present, int64_t keys) {
  if (model.activation == "softmax") {
    return;
  }
  std::vector<float> inner(a, a + keys);
  softmax_present(inner.data(), present, keys);
  const bool centred = model.activation == "superposition_centered";
  float sum = 0.0F;
  for (int64_t j = 0; j < keys; ++j) {
    const float first = centred ? 2.0F * sigmoid(a[j]) - 1.0F : sigmoid(a[j]);
    const float g = model.alpha * first + model.beta * std::tanh(a[j]) +
                    model.gamma * inner[static_cast<std::size_t>(j)];
    a[j] = present[j] != 0.0F ? g : 0.0F;
    sum += a[j];
  }
  if (model.activation == "superposition_normalized" && sum != 0.0F) {
    for (int64_t j = 0; j < keys; ++j) {
      a[j] /= sum;
    }
  }
}

Array attention(const Formula& model, const std::string& layer, const Array& x, const Array& mask) {
  Array q = split(dense(model, layer + ".q", x), model.heads);
  Array k = split(dense(model, layer + ".k", x), model.heads);
  const Array v = split(dense(model, layer + ".v", x), model.heads);
  if (model.positions == "rotary") {
    q = turned(q, model.rotary_base);
    k = turned(k, model.rotary_base);
  }
  Array weights = product(q, k, true);
  const float scale = 1.0F / std::sqrt(static_cast<float>(q.last()));
  const int64_t keys = weights.last();
  const int64_t rows_per_sample = model.heads * keys;
  for (int64_t row = 0; row < weights.size() / keys; ++row) {
    float* values = weights.values.data() + row * keys;
    const float* present = mask.values.data() + row / rows_per_sample * keys;
    std::for_each(values, values + keys, [scale](float& value) { value *= scale; });
    softmax_present(values, present, keys);
    attention_weights(model, values, present, keys);
  }
  const Array context = transpose(product(weights, v, false), {0, 2, 1, 3});
  return dense(model, layer + ".o", reshape(context, x.shape));
}

Array feed_forward(const Formula& model, const std::string& block, const Array& x) {
  return dense(model, block + "ff2", map(dense(model, block + "ff1", x), relu));
}

Array embedded(const Formula& model, const Array& features) {
  Array x = features;
  if (model.parameters.contains("input.mean")) {
    x = combine(combine(x, model.parameter("input.mean"), std::minus<>()),
                model.parameter("input.scale"), std::multiplies<>());
  }
  const Array z = dense(model, "input", x);
  if (model.positions != "learned") {
    return z;
  }
  const Array& table = model.parameter("pos");
  return add(z, slice(table, {0, 0}, {features.shape[1], table.last()}));
}

StemOutputs evaluate(const Formula& model, const Array& features, const Array& mask) {
  if (features.shape.size() != 3 || features.shape[1] > model.longest) {
    throw InputError("features {} for a model of at most {} tokens", to_string(features.shape),
                     model.longest);
  }
  Array z = embedded(model, features);
  for (int64_t i = 0; i < model.depth; ++i) {
    const std::string block = fmt::format("blocks.{}.", i);
    if (model.pre_norm) {
      z = add(z, attention(model, block + "attn", norm(model, block + "ln1", z), mask));
      z = add(z, feed_forward(model, block, norm(model, block + "ln2", z)));
    } else {
      z = norm(model, block + "ln1", add(z, attention(model, block + "attn", z, mask)));
      z = norm(model, block + "ln2", add(z, feed_forward(model, block, z)));
    }
  }
  if (model.pre_norm) {
    z = norm(model, "final_norm", z);
  }
  StemOutputs outputs;
  for (const std::string_view stem : kStemNames) {
    const std::string head = fmt::format("heads.{}.", stem);
    const Array hidden =
        map(dense(model, head + "hidden", z), [](float x) { return quantum(relu(x)); });
    outputs[std::string(stem)] = dense(model, head + "out", hidden);
  }
  return outputs;
}

Array array_of(const ConstTensorView& view) {
  const auto dims = view.shape().dims();
  const auto* values = view.as<float>();
  return Array::of({dims.begin(), dims.end()}, {values, values + view.elements()});
}

struct KerasLayer {
  std::string name;
  std::string prefix;                // of its parameters
  std::vector<std::string> weights;  // "kernel", "bias"
};

// The layers of keras_h5.h, in their order.
std::vector<KerasLayer> keras_layers(int64_t depth) {
  const std::vector<std::string> dense = {"kernel", "bias"};
  const std::vector<std::string> norm = {"gamma", "beta"};
  std::vector<KerasLayer> layers = {{"input_projection", "input", dense},
                                    {"positional_encoding", "pos", {"embeddings"}}};
  for (int64_t i = 0; i < depth; ++i) {
    const std::string block = fmt::format("blocks.{}.", i);
    for (const char* part : {"q", "k", "v", "o"}) {
      layers.push_back({fmt::format("attention_{}_w{}", i, part), block + "attn." + part, dense});
    }
    layers.push_back({fmt::format("norm1_{}", i), block + "ln1", norm});
    layers.push_back({fmt::format("ff1_{}", i), block + "ff1", dense});
    layers.push_back({fmt::format("ff2_{}", i), block + "ff2", dense});
    layers.push_back({fmt::format("norm2_{}", i), block + "ln2", norm});
  }
  for (const std::string_view stem : kStemNames) {
    const std::string head = fmt::format("heads.{}.", stem);
    layers.push_back({fmt::format("{}_head_dense1", stem), head + "hidden", dense});
    layers.push_back({fmt::format("{}_head_output", stem), head + "out", dense});
  }
  return layers;
}

// load_weights pairs by position and looks at no name.
void check_order(const std::string& list, const std::vector<std::string>& found,
                 const std::vector<std::string>& wanted) {
  if (found.size() != wanted.size()) {
    throw InputError("{} has {} entries where Keras wants {}", list, found.size(), wanted.size());
  }
  const auto [entry, want] = std::ranges::mismatch(found, wanted);
  if (entry != found.end()) {
    throw InputError("{} has '{}' where Keras takes what comes for '{}'", list, *entry, *want);
  }
}

void read_keras_layer(const Hdf5File& file, const KerasLayer& layer, Formula& model) {
  const std::string group = "/" + layer.name;
  std::vector<std::string> names;
  for (const std::string& weight : layer.weights) {
    names.push_back(fmt::format("{}/{}:0", layer.name, weight));
  }
  check_order("weight_names of " + layer.name, file.read_attribute_list(group, "weight_names"),
              names);
  for (std::size_t i = 0; i < names.size(); ++i) {
    const std::string parameter =
        layer.prefix == "pos" ? layer.prefix : layer.prefix + "." + layer.weights[i];
    model.parameters[parameter] = array_of(file.read_dataset(group + "/" + names[i]).view());
  }
}

Formula read_keras_h5(const std::filesystem::path& path) {
  const Hdf5File file(path);
  Formula model;
  const Json json = Json::parse(file.read_attribute("/", "stemfabric_config"));
  model.depth = json.at("depth");
  model.heads = json.at("heads");
  model.longest = json.at("max_sequence_length");
  model.epsilon = json.at("norm_epsilon");
  model.positions = "learned";
  model.activation = json.at("attention_activation");
  model.alpha = json.at("attention_coefficients").at(0);
  model.beta = json.at("attention_coefficients").at(1);
  model.gamma = json.at("attention_coefficients").at(2);
  const std::vector<std::string> found = file.read_attribute_list("/", "layer_names");
  const auto most = static_cast<int64_t>(found.size());  // blocks have more layers than one
  const std::vector<KerasLayer> layers = keras_layers(std::min(model.depth, most));
  std::vector<std::string> names;
  for (const KerasLayer& layer : layers) {
    names.push_back(layer.name);
  }
  check_order("layer_names", found, names);
  for (const KerasLayer& layer : layers) {
    read_keras_layer(file, layer, model);
  }
  return model;
}

Formula read_safetensors(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  const auto config = file.metadata().find("config");
  if (config == file.metadata().end()) {
    throw InputError("has no `config` entry in its metadata");
  }
  const Json json = Json::parse(config->second);
  const Json& function = json.at("attention");
  Formula model;
  model.depth = json.at("depth");
  model.heads = json.at("heads");
  model.longest = json.at("max_sequence_length");
  model.epsilon = json.at("norm_epsilon");
  model.pre_norm = json.at("norm_placement") == "pre";
  model.positions = json.at("positions");
  model.rotary_base = json.at("rotary_base");
  model.activation = function.at("activation");
  model.alpha = function.at("alpha");
  model.beta = function.at("beta");
  model.gamma = function.at("gamma");
  for (const auto& [name, view] : file.tensors()) {
    model.parameters[name] = array_of(view);
  }
  return model;
}

Evaluator open_formula(const std::filesystem::path& path,
                       Formula (*read)(const std::filesystem::path&)) {
  const auto formula = [&] {
    try {
      return read(path);
    } catch (const Json::exception& error) {
      throw InputError("its configuration cannot be read: {}", error.what());
    }
  };
  return open_file(path.string(), formula, evaluate);
}

}  // namespace

Evaluator open_keras_h5(const std::filesystem::path& path) {
  return open_formula(path, read_keras_h5);
}

Evaluator open_weights(const std::filesystem::path& path) {
  return open_formula(path, read_safetensors);
}

}  // namespace stemfabric::evaluator
