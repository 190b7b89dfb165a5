// A trained model in host memory, as the export formats take it apart.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "runtime/memory/buffer.h"
#include "trainer/config/config.h"
#include "trainer/data/dataset.h"
#include "trainer/model/parameter_table.h"

namespace stemfabric {

class ModelWeights {
 public:
  // `block` is laid out by ParameterTable(config). Statistics of 0 and 1 are dropped.
  ModelWeights(const ModelConfig& config, std::vector<float> block, InputStatistics statistics);
  // Reads a weights file (docs/weights.md), with the errors of trainer/model/weights_file.h.
  static ModelWeights load(const std::filesystem::path& weights);

  const ModelConfig& config() const { return config_; }
  const ParameterTable& table() const { return table_; }
  const float* block() const { return block_.data(); }
  const InputStatistics& statistics() const { return statistics_; }  // empty: 0 and 1
  // A parameter by its name in docs/weights.md, contiguous.
  Tensor tensor(const std::string& name) const;

 private:
  ModelConfig config_;
  ParameterTable table_;
  std::vector<float> block_;
  InputStatistics statistics_;
};

// A view whose rows may be strided, as a contiguous tensor.
Tensor contiguous_copy(const ConstTensorView& view);

}  // namespace stemfabric
