// Every parameter of the model: name, shape, initial distribution, place in the one block that
// optimiser, checkpoint and export share. Names: docs/weights.md.
//
// Kernels that one product uses together lie side by side: q, k and v are column slices of one
// [dim, 3·dim] matrix, the six hidden layers of one [dim, 6·dim]; their biases follow each other.
// A named parameter is then a view with strided rows. Kernels come first in the block, so that
// weight decay is one range. Every matrix and vector that a product reads starts at a multiple of
// 64 bytes.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "runtime/core/bf16.h"
#include "runtime/core/tensor_view.h"
#include "trainer/config/config.h"

namespace stemfabric {

enum class Initializer : uint8_t { kZeros, kOnes, kGlorotUniform, kPositions };

struct ParameterInfo {
  std::string name;  // "blocks.0.attn.q.kernel"
  Shape shape;       // [rows, columns] or [n]
  Initializer initializer;
  int64_t offset;      // of the first element in the block, in elements
  int64_t row_stride;  // in elements; the columns of a matrix of its own, n for vectors
};

class ParameterTable {
 public:
  // All sizes must be set. ConfigError that names the key if they make no model (a size of 0,
  // heads that do not divide dim, more than 128 columns per head, an odd rotary head, …).
  explicit ParameterTable(const ModelConfig& config);

  // In the order of the data flow: input, positions, blocks, final norm, heads.
  const std::vector<ParameterInfo>& entries() const { return entries_; }
  const ParameterInfo& find(const std::string& name) const;  // InternalError if there is none
  bool contains(const std::string& name) const { return index_.contains(name); }
  // What one product reads: "blocks.N.attn.qkv.{kernel,bias}" [dim, 3·dim] and [3·dim],
  // "heads.hidden.{kernel,bias}" [dim, 6·dim] and [6·dim]. Not parameters of their own.
  const ParameterInfo& fused(const std::string& name) const;

  int64_t block_elements() const { return block_elements_; }  // including alignment gaps (zeros)
  int64_t decayed_elements() const { return decayed_elements_; }  // kernels: [0, decayed_elements)
  int64_t parameter_count() const;                                // without gaps

  // The named parameter inside a block of block_elements() f32.
  static TensorView view(const ParameterInfo& info, float* block);
  static ConstTensorView view(const ParameterInfo& info, const float* block);
  // The same in a block of as many bf16.
  static TensorView view(const ParameterInfo& info, Bf16* block);

  // Fills a block: Glorot uniform kernels, zero biases, unit gammas, positions uniform ±0.05. A
  // pure function of (seed, parameter name, element); gaps are zero.
  void initialize(float* block, uint64_t seed) const;

 private:
  struct Layout;
  std::vector<ParameterInfo> entries_;
  std::map<std::string, std::size_t> index_;  // name -> entry
  std::map<std::string, ParameterInfo> fused_;
  int64_t block_elements_ = 0;
  int64_t decayed_elements_ = 0;
};

}  // namespace stemfabric
