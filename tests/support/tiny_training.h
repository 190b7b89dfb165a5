// A small learnable data set and a small model, for tests that train.
#pragma once

#include <array>
#include <cmath>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kernels/common/philox.h"
#include "runtime/io/file.h"
#include "runtime/io/safetensors.h"
#include "tests/support/paths.h"
#include "trainer/config/config_io.h"
#include "trainer/data/shard.h"
#include "trainer/stems.h"

namespace stemfabric::test {

struct TinyData {
  int64_t train = 22;
  int64_t validation = 7;
  int64_t tokens = 6;
  int64_t features = 5;
  int64_t outputs = 3;
  uint32_t seed = 1;
  int64_t overflowing_sample = -1;  // of the training split: inputs so large that sums overflow
  std::array<float, kStemCount> target_factor{1, 1, 1, 1, 1, 1};
};

inline float tiny_random(uint32_t seed, uint32_t stream, int64_t index) {
  const auto i = static_cast<uint32_t>(index);
  return 2.0F * philox_uniform(philox4x32_10({{i, stream, 0, 0}}, {{seed, 77}}).word[0]) - 1.0F;
}

// Targets are smooth functions of the inputs, other ones for each stem; every third sample has
// padding at its end, and some elements and stems are not supervised.
inline void write_tiny_split(const std::filesystem::path& folder, const TinyData& data,
                             int64_t samples, uint32_t stream) {
  make_directories(folder);
  const int64_t t_count = data.tokens;
  const int64_t f_count = data.features;
  const int64_t o_count = data.outputs;
  Tensor inputs = Tensor::zeros({samples, t_count, f_count}, DType::kF32);
  Tensor input_mask = Tensor::zeros({samples, t_count}, DType::kU8);
  Tensor targets = Tensor::zeros({samples, kStemCount, t_count, o_count}, DType::kF32);
  Tensor target_mask = Tensor::zeros({samples, kStemCount, t_count, o_count}, DType::kU8);
  Tensor stem_weight = Tensor::zeros({samples, kStemCount}, DType::kF32);
  std::vector<std::string> ids;
  for (int64_t n = 0; n < samples; ++n) {
    ids.push_back((stream == 0 ? "song-" : "held-out-") + std::to_string(n));
    const int64_t present = n % 3 == 2 ? t_count - 1 - n % 2 : t_count;
    for (int64_t t = 0; t < t_count; ++t) {
      input_mask.as<uint8_t>()[n * t_count + t] = t < present ? 1 : 0;
      float* x = inputs.as<float>() + (n * t_count + t) * f_count;
      for (int64_t f = 0; f < f_count; ++f) {
        x[f] = tiny_random(data.seed, 10 + stream, (n * t_count + t) * f_count + f);
      }
      for (int64_t s = 0; s < kStemCount; ++s) {
        for (int64_t o = 0; o < o_count; ++o) {
          const int64_t at = ((n * kStemCount + s) * t_count + t) * o_count + o;
          targets.as<float>()[at] =
              (0.5F * std::tanh(x[o % f_count] + 0.7F * x[(o + s + 1) % f_count]) +
               0.1F * static_cast<float>(s)) *
              data.target_factor[static_cast<std::size_t>(s)];
          target_mask.as<uint8_t>()[at] = (n + s) % 5 != 0 && (t + o) % 7 != 3 ? 1 : 0;
        }
      }
    }
    for (int64_t s = 0; s < kStemCount; ++s) {
      stem_weight.as<float>()[n * kStemCount + s] = s == n % kStemCount ? 1.5F : 1.0F;
    }
    if (stream == 0 && n == data.overflowing_sample) {
      std::fill_n(inputs.as<float>() + n * t_count * f_count, t_count * f_count, 3e38F);
    }
  }
  // Two shards, so that their order matters.
  const int64_t half = samples / 2;
  for (const auto& [index, begin, size] :
       {std::tuple<int64_t, int64_t, int64_t>{0, 0, half}, {1, half, samples - half}}) {
    const auto part = [&, b = begin, n = size](const Tensor& tensor) {
      return tensor.view().slice(0, b, n);
    };
    if (size > 0) {
      write_shard(folder / shard_file_name(index),
                  {.inputs = part(inputs),
                   .input_mask = part(input_mask),
                   .targets = part(targets),
                   .target_mask = part(target_mask),
                   .stem_weight = part(stem_weight)},
                  {ids.begin() + begin, ids.begin() + begin + size});
    }
  }
}

inline void write_tiny_dataset(const std::filesystem::path& root, const TinyData& data = {}) {
  write_tiny_split(root / "train", data, data.train, 0);
  if (data.validation > 0) {
    write_tiny_split(root / "validation", data, data.validation, 1);
  }
}

// The overrides that every small run starts from; later ones win.
inline std::vector<std::string> tiny_settings(const std::filesystem::path& dataset,
                                              const std::vector<std::string>& more = {}) {
  std::vector<std::string> settings = {"data.dataset_dir=" + dataset.string(),
                                       "model.dim=16",
                                       "model.depth=1",
                                       "model.heads=2",
                                       "model.dim_ff=16",
                                       "training.batch_size=4",
                                       "training.num_epochs=2",
                                       "training.threads=1",
                                       "logging.tensorboard=false"};
  settings.insert(settings.end(), more.begin(), more.end());
  return settings;
}

inline LoadedConfig tiny_config(const std::filesystem::path& dataset,
                                const std::vector<std::string>& more = {}) {
  std::vector<ConfigOverride> overrides;
  for (const std::string& setting : tiny_settings(dataset, more)) {
    overrides.push_back(parse_override(setting));
  }
  return load_config({}, overrides);
}

// Objects of metrics.jsonl, then of epochs.jsonl, without what depends on the clock; all, or those
// of one kind.
inline std::vector<nlohmann::json> read_metrics(const std::filesystem::path& run,
                                                const std::string& kind = {}) {
  std::vector<nlohmann::json> objects;
  for (const char* name : {"metrics.jsonl", "epochs.jsonl"}) {
    std::ifstream file(run / name);
    for (std::string line; std::getline(file, line);) {
      nlohmann::json object = nlohmann::json::parse(line);
      object.erase("seconds");
      if (kind.empty() || object.at("kind") == kind) {
        objects.push_back(std::move(object));
      }
    }
  }
  return objects;
}

inline nlohmann::json read_json_file(const std::filesystem::path& path) {
  return nlohmann::json::parse(read_text_file(path));
}

inline std::map<std::string, std::vector<float>> read_all_tensors(
    const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  std::map<std::string, std::vector<float>> values;
  for (const auto& [name, view] : file.tensors()) {
    const auto* data = view.as<float>();
    values[name].assign(data, data + view.elements());
  }
  return values;
}

}  // namespace stemfabric::test
