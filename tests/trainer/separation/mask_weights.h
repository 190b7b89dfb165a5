// Weights whose masks are constants: what a model of masks does with them is known.
#pragma once

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/trainer/audio_data/tiny_audio.h"
#include "trainer/model/weights_file.h"

namespace stemfabric::test {

// A model of masks on spectra of 512 samples every 128 at kTinyRate, chunks of 4096 samples.
inline ModelConfig mask_model(const std::string& mask, int64_t depth, int64_t channels = 1) {
  ModelConfig model = tiny_audio_config({}, {"model.mask=" + mask}).config.model;
  model.depth = depth;
  model.positions = "none";
  model.mask_channels = channels;
  model.input_dim = 256;
  model.output_dim = channels * (mask == "complex" ? 2 : 1) * model.mask_bands;
  model.max_sequence_length = 4096;
  model.audio =
      AudioConfig{.sample_rate = kTinyRate, .chunk_size = 4096, .n_fft = 512, .hop_length = 128};
  return model;
}

// The outputs of the vocals' head and of the others', whatever the input.
inline void set_constant_outputs(const ParameterTable& table, float vocals, float others,
                                 float* block) {
  for (const std::string_view stem : kStemNames) {
    const std::string layer = "heads." + std::string(stem) + ".out.";
    const TensorView kernel = ParameterTable::view(table.find(layer + "kernel"), block);
    for (int64_t row = 0; row < kernel.dim(0); ++row) {
      std::fill_n(kernel.as<float>() + row * kernel.stride(0), kernel.dim(1), 0.0F);
    }
    const TensorView bias = ParameterTable::view(table.find(layer + "bias"), block);
    std::fill_n(bias.as<float>(), bias.elements(), stem == "vocals" ? vocals : others);
  }
}

// Weights of real masks: all of the mixture is vocals.
inline void write_all_is_vocals(const std::filesystem::path& file, ModelConfig config) {
  const ParameterTable table(config);
  std::vector<float> block(static_cast<std::size_t>(table.block_elements()));
  table.initialize(block.data(), 7);
  set_constant_outputs(table, 40.0F, -80.0F, block.data());
  write_weights(file, config, table, block.data(), {}, {});
}

}  // namespace stemfabric::test
