#include "trainer/model/weights_file.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <span>

#include "runtime/io/file.h"
#include "runtime/io/safetensors.h"
#include "trainer/config/config_io.h"
#include "trainer/stems.h"

namespace stemfabric {

namespace {

constexpr const char* kMean = "input.mean";
constexpr const char* kScale = "input.scale";
constexpr const char* kConfigEntry = "config";
constexpr const char* kContentsEntry = "contents_sha256";

// "heads.vocals.out.kernel" -> "heads.0.out.kernel"; nothing for other names.
std::optional<std::string> numbered_name(const std::string& name) {
  constexpr std::string_view kHeads = "heads.";
  if (!name.starts_with(kHeads)) {
    return std::nullopt;
  }
  const std::size_t dot = name.find('.', kHeads.size());
  if (dot == std::string::npos) {
    return std::nullopt;
  }
  const auto stem = stem_index(std::string_view(name).substr(kHeads.size(), dot - kHeads.size()));
  return stem ? std::optional(fmt::format("{}{}{}", kHeads, *stem, name.substr(dot)))
              : std::nullopt;
}

// The name under which the file holds one of our tensors, empty if it does not.
std::string name_in_file(const SafetensorsFile& file, const std::string& name) {
  if (file.contains(name)) {
    return name;
  }
  const auto numbered = numbered_name(name);
  return numbered && file.contains(*numbered) ? *numbered : std::string();
}

[[noreturn]] void refuse(const SafetensorsFile& file, const std::string& problem) {
  throw InputError("{}: {}", file.path().string(), problem);
}

const ConstTensorView& checked_tensor(const SafetensorsFile& file, const std::string& name,
                                      const Shape& shape) {
  const std::string stored = name_in_file(file, name);
  if (stored.empty()) {
    refuse(file,
           fmt::format("tensor '{}' {} is missing; this is not a weights file of such a model",
                       name, shape.to_string()));
  }
  const ConstTensorView& view = file.at(stored);
  if (view.dtype() != DType::kF32 || !(view.shape() == shape)) {
    refuse(file,
           fmt::format("tensor '{}' is {} {}, but the model has {} f32", stored,
                       view.shape().to_string(), dtype_name(view.dtype()), shape.to_string()));
  }
  return view;
}

void check_tensors(const SafetensorsFile& file, const ParameterTable& table, int64_t input_dim) {
  std::set<std::string> known;
  for (const ParameterInfo& p : table.entries()) {
    checked_tensor(file, p.name, p.shape);
    known.insert(name_in_file(file, p.name));
  }
  if (file.contains(kMean) != file.contains(kScale)) {
    refuse(file, fmt::format("has only one of '{}' and '{}'; give both or neither", kMean, kScale));
  }
  if (file.contains(kMean)) {
    for (const char* name : {kMean, kScale}) {
      checked_tensor(file, name, {input_dim});
      known.insert(name);
    }
  }
  for (const auto& [name, view] : file.tensors()) {
    if (!known.contains(name)) {
      refuse(file, fmt::format("tensor '{}' {} does not belong to the model", name,
                               view.shape().to_string()));
    }
  }
}

void check_finite(const SafetensorsFile& file, const std::string& name,
                  const ConstTensorView& view) {
  const float* values = view.as<float>();
  const float* end = values + view.elements();
  const float* bad = std::find_if_not(values, end, [](float x) { return std::isfinite(x); });
  if (bad != end) {
    refuse(file, fmt::format("tensor '{}' holds {} at element {}; the weights are broken", name,
                             std::isnan(*bad) ? std::abs(*bad) : *bad, bad - values));
  }
}

// SHA-256 over the configuration and every tensor's name and values, in order of the names.
std::string contents_hash(const std::string& config,
                          std::map<std::string, ConstTensorView> tensors) {
  Sha256 hash;
  hash.update(config);
  for (const auto& [name, view] : tensors) {
    hash.update(name);
    const int64_t columns = view.dim(-1);
    const int64_t rows = view.elements() / std::max<int64_t>(columns, 1);
    const int64_t stride = view.rank() > 1 ? view.stride(-2) : columns;
    for (int64_t row = 0; row < rows; ++row) {
      hash.update(std::as_bytes(
          std::span(view.as<float>() + row * stride, static_cast<std::size_t>(columns))));
    }
  }
  return hash.hex();
}

// Files of other programs have no such entry; ours do.
void check_contents(const SafetensorsFile& file) {
  const auto stated = file.metadata().find(kContentsEntry);
  const auto config = file.metadata().find(kConfigEntry);
  if (stated != file.metadata().end() &&
      (config == file.metadata().end() ||
       contents_hash(config->second, file.tensors()) != stated->second)) {
    refuse(file, fmt::format("is damaged: its tensors and `config` do not have the SHA-256 that "
                             "its metadata state as `{}`",
                             kContentsEntry));
  }
}

// Axis `axis` of a tensor, for a size that the configuration leaves open.
int64_t size_from_tensor(const SafetensorsFile& file, const std::string& name, int axis,
                         const char* key) {
  const std::string stored = name_in_file(file, name);
  if (stored.empty() || file.at(stored).rank() != 2) {
    refuse(file,
           fmt::format("its `config` does not give {}, and there is no matrix '{}' to tell it", key,
                       name));
  }
  return file.at(stored).dim(axis);
}

int64_t count_blocks(const SafetensorsFile& file) {
  int64_t depth = 0;
  while (file.contains(fmt::format("blocks.{}.ff1.kernel", depth))) {
    ++depth;
  }
  return depth;
}

void complete_sizes(const SafetensorsFile& file, const std::string& text, ModelConfig& config) {
  const auto given = nlohmann::json::parse(text);  // config_io has accepted it
  const auto complete = [&](const char* key, int64_t& size, const std::string& tensor, int axis) {
    if (!given.contains(key) || size == 0) {
      size = size_from_tensor(file, tensor, axis, key);
    }
  };
  complete("input_dim", config.input_dim, "input.kernel", 0);
  complete("dim", config.dim, "input.kernel", 1);
  complete("output_dim", config.output_dim, "heads.vocals.out.kernel", 1);
  if (!given.contains("depth")) {
    config.depth = count_blocks(file);
  }
  if (config.depth > 0) {
    complete("dim_ff", config.dim_ff, "blocks.0.ff1.kernel", 1);
  }
  complete("max_sequence_length", config.max_sequence_length, "pos", 0);
}

}  // namespace

ModelConfig read_model_config(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  const auto entry = file.metadata().find(kConfigEntry);
  if (entry == file.metadata().end()) {
    refuse(file, "has no `config` entry in its metadata; it is not a weights file of ours");
  }
  const std::string source = fmt::format("{}: metadata `config`", path.string());
  ModelConfig config = model_config_from_json(entry->second, source);
  complete_sizes(file, entry->second, config);
  try {
    const ParameterTable table(config);
    check_tensors(file, table, config.input_dim);
  } catch (const ConfigError& e) {
    throw InputError("{}: {}", source, e.what());
  }
  return config;
}

InputStatistics read_weights(const std::filesystem::path& path, const ParameterTable& table,
                             float* block) {
  const SafetensorsFile file(path);
  const int64_t input_dim = table.find("input.kernel").shape[0];
  check_tensors(file, table, input_dim);
  check_contents(file);
  std::fill_n(block, table.block_elements(), 0.0f);
  for (const ParameterInfo& p : table.entries()) {
    const ConstTensorView& stored = checked_tensor(file, p.name, p.shape);
    check_finite(file, p.name, stored);
    const int64_t columns = p.shape[-1];
    const int64_t rows = p.shape.elements() / columns;
    for (int64_t row = 0; row < rows; ++row) {
      std::copy_n(stored.as<float>() + row * columns, columns,
                  block + p.offset + row * p.row_stride);
    }
  }
  const auto n = static_cast<std::size_t>(input_dim);
  InputStatistics statistics{.mean = std::vector<float>(n, 0.0f),
                             .scale = std::vector<float>(n, 1.0f)};
  if (file.contains(kMean)) {
    check_finite(file, kMean, file.at(kMean));
    check_finite(file, kScale, file.at(kScale));
    std::copy_n(file.at(kMean).as<float>(), n, statistics.mean.data());
    std::copy_n(file.at(kScale).as<float>(), n, statistics.scale.data());
  }
  return statistics;
}

std::string write_weights(const std::filesystem::path& path, const ModelConfig& config,
                          const ParameterTable& table, const float* block,
                          const InputStatistics& statistics,
                          const std::map<std::string, std::string>& metadata) {
  std::vector<NamedTensor> tensors;
  for (const ParameterInfo& p : table.entries()) {
    tensors.push_back({p.name, ParameterTable::view(p, block)});
  }
  const auto add_statistics = [&](const char* name, const std::vector<float>& values) {
    SF_CHECK(static_cast<int64_t>(values.size()) == config.input_dim,
             "write_weights: {} has {} values, the model takes {} features", name, values.size(),
             config.input_dim);
    tensors.push_back({name, {values.data(), Shape{config.input_dim}}});
  };
  if (!statistics.mean.empty() || !statistics.scale.empty()) {
    add_statistics(kMean, statistics.mean);
    add_statistics(kScale, statistics.scale);
  }
  std::map<std::string, std::string> entries = metadata;
  entries[kConfigEntry] = model_config_to_json(config);
  std::map<std::string, ConstTensorView> by_name;
  for (const NamedTensor& tensor : tensors) {
    by_name[tensor.name] = tensor.view;
  }
  entries[kContentsEntry] = contents_hash(entries[kConfigEntry], by_name);
  return write_safetensors(path, tensors, entries);
}

}  // namespace stemfabric
