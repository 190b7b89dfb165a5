// Weights in *.safetensors: the names of docs/weights.md, float32, kernels [in, out];
// `input.mean` and `input.scale` optional (absent = 0 and 1); the model section of the
// configuration is the JSON text of the `config` entry of __metadata__. Heads may also be numbered
// ("heads.0.out.kernel" for "heads.vocals.out.kernel"); they are written by name.
// `contents_sha256` in __metadata__ (ours have it, other files need not) covers the configuration
// and all tensors: a flipped bit is an InputError.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "runtime/core/tensor_view.h"
#include "trainer/config/config.h"
#include "trainer/data/dataset.h"
#include "trainer/model/parameter_table.h"

namespace stemfabric {

// Model configuration stored in a file. Sizes that the metadata lack or give as 0 are read from the
// tensors; then the file is checked to hold exactly the tensors of that model, so that what it
// claims is never larger than what it holds. InputError if it is no weights file of ours.
ModelConfig read_model_config(const std::filesystem::path& path);

// Reads all parameters into a block laid out by `table`; gaps become zero. Missing, extra, wrongly
// shaped or non-finite tensors are InputErrors that name file and tensor. Returns the statistics
// (identity if the file has none).
InputStatistics read_weights(const std::filesystem::path& path, const ParameterTable& table,
                             float* block);

// Atomic; returns the file's SHA-256. Statistics are left out if they are empty. `metadata` is
// added beside `config`.
std::string write_weights(const std::filesystem::path& path, const ModelConfig& config,
                          const ParameterTable& table, const float* block,
                          const InputStatistics& statistics,
                          const std::map<std::string, std::string>& metadata);

}  // namespace stemfabric
