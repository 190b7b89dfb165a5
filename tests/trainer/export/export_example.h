// Models for the tests of exports: every parameter is different from every other, so that no
// mix-up goes unseen.
#pragma once

#include <cmath>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "kernels/common/philox.h"
#include "tests/support/paths.h"
#include "trainer/export/export_model.h"
#include "trainer/export/verification.h"
#include "trainer/model/mask_head.h"
#include "trainer/model/weights_file.h"

namespace stemfabric::test {

struct ExportVariant {
  std::string name;
  std::function<void(ModelConfig&)> change;
  bool keras = true;  // its layers can express it
  bool statistics = true;
};

inline void PrintTo(const ExportVariant& variant, std::ostream* out) { *out << variant.name; }

inline ModelConfig export_model_config() {
  ModelConfig config;
  config.input_dim = 6;
  config.dim = 8;
  config.heads = 2;
  config.depth = 2;
  config.dim_ff = 16;
  config.output_dim = 5;
  config.max_sequence_length = 12;
  return config;
}

inline ExportVariant with_activation(const std::string& activation) {
  return {activation, [activation](ModelConfig& c) { c.attention.activation = activation; }};
}

inline ExportVariant with_mask(const std::string& mask) {
  return {"mask_" + mask, [mask](ModelConfig& c) {
            c.mask = mask;
            c.mask_bands = 4;
            c.audio = AudioConfig{};
            c.output_dim = mask_outputs(c);
          }};
}

inline const std::vector<ExportVariant>& export_variants() {
  static const std::vector<ExportVariant> all = {
      with_activation("softmax"),
      with_activation("superposition"),
      with_activation("superposition_centered"),
      with_activation("superposition_normalized"),
      {"other_coefficients",
       [](ModelConfig& c) {
         c.attention = {.activation = "superposition", .alpha = 0.7, .beta = -0.2, .gamma = 0.1};
         c.norm_epsilon = 1e-3;
       }},
      {"without_statistics", [](ModelConfig&) {}, true, false},
      {"pre_norm", [](ModelConfig& c) { c.norm_placement = "pre"; }, false},
      {"rotary",
       [](ModelConfig& c) {
         c.positions = "rotary";
         c.rotary_base = 100;
       },
       false},
      {"pre_norm_rotary_normalized",
       [](ModelConfig& c) {
         c.norm_placement = "pre";
         c.positions = "rotary";
         c.attention.activation = "superposition_normalized";
       },
       false},
      {"no_positions", [](ModelConfig& c) { c.positions = "none"; }, false},
      {"no_blocks", [](ModelConfig& c) { c.depth = 0; }},
      {"one_head", [](ModelConfig& c) { c.heads = 1; }},
      with_mask("real"),
      with_mask("complex"),
  };
  return all;
}

inline float export_random(uint32_t stream, int64_t index) {
  const auto i = static_cast<uint32_t>(index);
  return 2.0F * philox_uniform(philox4x32_10({{i, stream, 0, 0}}, {{11, 5}}).word[0]) - 1.0F;
}

// Writes dir/name with its weights multiplied by `gain`; returns its path.
inline std::filesystem::path write_export_example(const TempDir& dir, const ExportVariant& variant,
                                                  const std::string& name = "w.safetensors",
                                                  float query_gain = 1.0F) {
  ModelConfig config = export_model_config();
  variant.change(config);
  const ParameterTable table(config);
  std::vector<float> block(static_cast<std::size_t>(table.block_elements()));
  table.initialize(block.data(), 3);
  for (std::size_t i = 0; i < block.size(); ++i) {
    block[i] += 0.3F * export_random(1, static_cast<int64_t>(i));
  }
  for (int64_t i = 0; i < config.depth; ++i) {
    const TensorView kernel =
        ParameterTable::view(table.find(fmt::format("blocks.{}.attn.q.kernel", i)), block.data());
    for (int64_t row = 0; row < config.dim; ++row) {
      for (int64_t column = 0; column < config.dim; ++column) {
        kernel.as<float>()[row * kernel.stride(0) + column] *= query_gain;
      }
    }
  }
  InputStatistics statistics;
  for (int64_t i = 0; variant.statistics && i < config.input_dim; ++i) {
    statistics.mean.push_back(3.0F * export_random(2, i));
    statistics.scale.push_back(std::exp(2.0F * export_random(3, i)));
  }
  write_weights(dir / name, config, table, block.data(), statistics,
                {{"data_hash", "c0ffee"}, {"step", "120"}});
  return dir / name;
}

inline TrainedModel open_export_example(const ExecutionContext& ctx,
                                        const std::filesystem::path& weights) {
  const int64_t longest = read_model_config(weights).max_sequence_length;
  return open_trained_model(ctx, weights, 3, std::min(longest, kLongestVerified));
}

}  // namespace stemfabric::test
