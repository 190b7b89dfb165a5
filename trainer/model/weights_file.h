// Weights in *.safetensors: the names of docs/weights.md, float32, kernels [in, out];
// `input.mean` and `input.scale` optional (absent = 0 and 1); the model section of the
// configuration is the JSON text of the `config` entry of __metadata__.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "runtime/core/tensor_view.h"
#include "trainer/config/config.h"
#include "trainer/data/dataset.h"
#include "trainer/model/parameter_table.h"

namespace stemfabric {

// Model configuration stored in a file; sizes that the tensors determine are read from them if the
// metadata lack them. InputError if the file is no weights file of ours.
ModelConfig read_model_config(const std::filesystem::path& path);

// Reads all parameters into a block laid out by `table`. Missing, extra or wrongly shaped tensors
// are InputErrors that name file and tensor. Returns the statistics (identity if the file has
// none).
InputStatistics read_weights(const std::filesystem::path& path, const ParameterTable& table,
                             float* block);

// Returns the file's SHA-256. `metadata` is added beside `config`.
std::string write_weights(const std::filesystem::path& path, const ModelConfig& config,
                          const ParameterTable& table, const float* block,
                          const InputStatistics& statistics,
                          const std::map<std::string, std::string>& metadata);

}  // namespace stemfabric
