#include "trainer/export/keras_h5.h"

#include <nlohmann/json.hpp>
#include <vector>

#include "runtime/core/check.h"
#include "runtime/io/hdf5.h"
#include "trainer/export/model_weights.h"
#include "trainer/stems.h"

namespace stemfabric {
namespace {

struct Weight {
  std::string name;       // "kernel"
  std::string parameter;  // in the table: "blocks.0.attn.q.kernel"
};
struct Layer {
  std::string name;
  std::vector<Weight> weights;  // in the order in which Keras pairs them
};

Layer dense(const std::string& layer, const std::string& parameter) {
  return {layer, {{"kernel", parameter + ".kernel"}, {"bias", parameter + ".bias"}}};
}

Layer norm(const std::string& layer, const std::string& parameter) {
  return {layer, {{"gamma", parameter + ".gamma"}, {"beta", parameter + ".beta"}}};
}

std::vector<Layer> layers_of(const ModelConfig& config) {
  std::vector<Layer> layers = {dense("input_projection", "input"),
                               {"positional_encoding", {{"embeddings", "pos"}}}};
  for (int64_t i = 0; i < config.depth; ++i) {
    const std::string block = fmt::format("blocks.{}.", i);
    for (const char* part : {"q", "k", "v", "o"}) {
      layers.push_back(dense(fmt::format("attention_{}_w{}", i, part), block + "attn." + part));
    }
    layers.push_back(norm(fmt::format("norm1_{}", i), block + "ln1"));
    layers.push_back(dense(fmt::format("ff1_{}", i), block + "ff1"));
    layers.push_back(dense(fmt::format("ff2_{}", i), block + "ff2"));
    layers.push_back(norm(fmt::format("norm2_{}", i), block + "ln2"));
  }
  for (const std::string_view stem : kStemNames) {
    layers.push_back(
        dense(fmt::format("{}_head_dense1", stem), fmt::format("heads.{}.hidden", stem)));
    layers.push_back(dense(fmt::format("{}_head_output", stem), fmt::format("heads.{}.out", stem)));
  }
  return layers;
}

std::string config_json(const ModelConfig& config, bool folded) {
  const nlohmann::ordered_json json = {
      {"features", config.input_dim},
      {"dim", config.dim},
      {"heads", config.heads},
      {"depth", config.depth},
      {"dim_ff", config.dim_ff},
      {"out", config.output_dim},
      {"max_sequence_length", config.max_sequence_length},
      {"norm_epsilon", config.norm_epsilon},
      {"attention_activation", config.attention.activation},
      {"attention_coefficients",
       {config.attention.alpha, config.attention.beta, config.attention.gamma}},
      {"input_statistics", folded ? "folded into input_projection" : "none"}};
  return json.dump();
}

void fold_statistics(const InputStatistics& statistics, Tensor& kernel, Tensor& bias) {
  const int64_t dim = kernel.shape()[1];
  std::vector<double> shift(static_cast<std::size_t>(dim), 0.0);
  for (int64_t i = 0; i < kernel.shape()[0]; ++i) {
    const double mean = statistics.mean[static_cast<std::size_t>(i)];
    const double scale = statistics.scale[static_cast<std::size_t>(i)];
    for (int64_t j = 0; j < dim; ++j) {
      float& weight = kernel.as<float>()[i * dim + j];
      weight = static_cast<float>(weight * scale);
      // The rounded weight, so that an input equal to the mean contributes nothing.
      shift[static_cast<std::size_t>(j)] += mean * weight;
    }
  }
  for (int64_t j = 0; j < dim; ++j) {
    float& value = bias.as<float>()[j];
    value = static_cast<float>(value - shift[static_cast<std::size_t>(j)]);
  }
}

void write_statistics(Hdf5Writer& file, const InputStatistics& statistics) {
  const Shape shape{static_cast<int64_t>(statistics.mean.size())};
  file.write_dataset("/stemfabric_input_statistics/mean",
                     ConstTensorView(statistics.mean.data(), shape));
  file.write_dataset("/stemfabric_input_statistics/scale",
                     ConstTensorView(statistics.scale.data(), shape));
}

void check_request(const std::filesystem::path& path, const ModelConfig& config,
                   const InputStatistics& statistics) {
  if (path.filename().string().ends_with(".weights.h5")) {
    throw UsageError(
        "{}: Keras 3 takes *.weights.h5 for another format; choose a name like "
        "final_model.h5",
        path.string());
  }
  if (const auto obstacle = keras_h5_obstacle(config)) {
    throw ConfigError("{} cannot be written: {}", path.string(), *obstacle);
  }
  const auto features = static_cast<std::size_t>(config.input_dim);
  SF_CHECK(statistics.mean.size() == statistics.scale.size() &&
               (statistics.mean.empty() || statistics.mean.size() == features),
           "input statistics of {} and {} features for {} inputs", statistics.mean.size(),
           statistics.scale.size(), features);
}

}  // namespace

std::optional<std::string> keras_h5_obstacle(const ModelConfig& config) {
  if (config.norm_placement != "post") {
    return fmt::format("its Keras layers are defined for model.norm_placement post, not {}",
                       config.norm_placement);
  }
  if (config.positions != "learned") {
    return fmt::format("its Keras layers are defined for model.positions learned, not {}",
                       config.positions);
  }
  return std::nullopt;
}

std::string write_keras_h5(const std::filesystem::path& path, const ModelConfig& config,
                           const ParameterTable& table, const float* block,
                           const InputStatistics& statistics) {
  check_request(path, config, statistics);
  const bool fold = !statistics.mean.empty();
  const std::vector<Layer> layers = layers_of(config);
  std::vector<std::string> layer_names;
  for (const Layer& layer : layers) {
    layer_names.push_back(layer.name);
  }
  Hdf5Writer file(path);
  file.set_attribute("/", "layer_names", layer_names);
  file.set_attribute("/", "backend", "tensorflow");
  file.set_attribute("/", "keras_version", "2.15.0");  // absent means version 1 and conversions
  file.set_attribute("/", "stemfabric_config", config_json(config, fold));
  for (const Layer& layer : layers) {
    std::vector<Tensor> tensors;
    std::vector<std::string> weight_names;
    for (const Weight& weight : layer.weights) {
      tensors.push_back(contiguous_copy(ParameterTable::view(table.find(weight.parameter), block)));
      weight_names.push_back(fmt::format("{}/{}:0", layer.name, weight.name));
    }
    if (fold && layer.name == "input_projection") {
      fold_statistics(statistics, tensors[0], tensors[1]);
    }
    file.create_group("/" + layer.name);
    file.set_attribute("/" + layer.name, "weight_names", weight_names);
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      file.write_dataset("/" + layer.name + "/" + weight_names[i], tensors[i].view());
    }
  }
  if (fold) {
    write_statistics(file, statistics);
  }
  return file.commit();
}

}  // namespace stemfabric
