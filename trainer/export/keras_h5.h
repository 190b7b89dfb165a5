// The trained model as a Keras weights file (the "legacy" HDF5 format of Keras 2, which Keras 3
// still loads): what model.save_weights("final_model.h5") writes. Layers, in this order:
//
//   input_projection {kernel [F,dim], bias [dim]} · positional_encoding {embeddings [T,dim]}
//   per block i: attention_<i>_{wq,wk,wv,wo} {kernel, bias} · norm1_<i> {gamma, beta}
//                ff1_<i> · ff2_<i> {kernel, bias} · norm2_<i> {gamma, beta}
//   per stem s: <s>_head_dense1 · <s>_head_output {kernel, bias}
//
// Root attributes: layer_names, backend, keras_version, stemfabric_config (JSON). The input
// statistics are folded into input_projection, so that nobody can forget them:
// kernel'[i][j] = kernel[i][j]·scale[i], bias'[j] = bias[j] − Σ_i mean[i]·kernel'[i][j] in double
// precision; they are also kept in the group /stemfabric_input_statistics, which Keras ignores.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "trainer/config/config.h"
#include "trainer/data/dataset.h"
#include "trainer/model/parameter_table.h"

namespace stemfabric {

// Why a model cannot be written as Keras layers, if it cannot: only learned positions and post-norm
// blocks have the layers above.
std::optional<std::string> keras_h5_obstacle(const ModelConfig& config);

// Returns the SHA-256 of the file. Empty statistics mean 0 and 1. ConfigError with
// keras_h5_obstacle(); UsageError for names "*.weights.h5", which Keras 3 takes for another format.
std::string write_keras_h5(const std::filesystem::path& path, const ModelConfig& config,
                           const ParameterTable& table, const float* block,
                           const InputStatistics& statistics);

}  // namespace stemfabric
