#include "trainer/export/model_weights.h"

#include <algorithm>
#include <cstring>

#include "trainer/model/weights_file.h"

namespace stemfabric {
namespace {

bool is_identity(const InputStatistics& statistics) {
  return std::ranges::all_of(statistics.mean, [](float x) { return x == 0.0F; }) &&
         std::ranges::all_of(statistics.scale, [](float x) { return x == 1.0F; });
}

}  // namespace

Tensor contiguous_copy(const ConstTensorView& view) {
  Tensor copy(view.shape(), DType::kF32);
  const int64_t columns = view.dim(-1);
  const int64_t rows = view.rank() == 2 ? view.dim(0) : 1;
  const int64_t stride = view.rank() == 2 ? view.stride(0) : columns;
  for (int64_t row = 0; row < rows; ++row) {
    std::memcpy(copy.as<float>() + row * columns, view.as<float>() + row * stride,
                static_cast<std::size_t>(columns) * sizeof(float));
  }
  return copy;
}

ModelWeights::ModelWeights(const ModelConfig& config, std::vector<float> block,
                           InputStatistics statistics)
    : config_(config), table_(config), block_(std::move(block)) {
  if (!is_identity(statistics)) {
    statistics_ = std::move(statistics);
  }
}

ModelWeights ModelWeights::load(const std::filesystem::path& weights) {
  const ModelConfig config = read_model_config(weights);
  const ParameterTable table(config);
  std::vector<float> block(static_cast<std::size_t>(table.block_elements()));
  InputStatistics statistics = read_weights(weights, table, block.data());
  return {config, std::move(block), std::move(statistics)};
}

Tensor ModelWeights::tensor(const std::string& name) const {
  return contiguous_copy(ParameterTable::view(table_.find(name), block()));
}

}  // namespace stemfabric
