#include "trainer/model/parameter_table.h"

#include <algorithm>
#include <cmath>

#include "kernels/common/philox.h"
#include "trainer/random_purpose.h"

namespace stemfabric {

namespace {

constexpr int64_t kAlignedElements = 16;  // 64 bytes of f32
constexpr int64_t kMaxHeadDim = 128;      // kernels/attention/attention.h
constexpr float kPositionRange = 0.05f;

void require(bool condition, const char* key, const std::string& problem) {
  if (!condition) {
    throw ConfigError("model.{}: {}", key, problem);
  }
}

void require_size(int64_t value, const char* key) {
  require(value > 0, key,
          fmt::format("is {}, but a model needs at least 1; set it, or take it from the data set",
                      value));
}

void check_model(const ModelConfig& c) {
  require_size(c.input_dim, "input_dim");
  require_size(c.dim, "dim");
  require_size(c.heads, "heads");
  require_size(c.dim_ff, "dim_ff");
  require_size(c.output_dim, "output_dim");
  require_size(c.max_sequence_length, "max_sequence_length");
  require(c.depth >= 0, "depth", fmt::format("is {}, but cannot be negative", c.depth));
  require(c.dim % c.heads == 0, "heads",
          fmt::format("{} heads do not divide model.dim {}; choose a divisor", c.heads, c.dim));
  const int64_t head_dim = c.dim / c.heads;
  require(
      head_dim <= kMaxHeadDim, "heads",
      fmt::format("{} heads of model.dim {} have {} columns each; the most is {}, use more heads",
                  c.heads, c.dim, head_dim, kMaxHeadDim));
  require(c.norm_placement == "post" || c.norm_placement == "pre", "norm_placement",
          fmt::format("'{}' is neither 'post' nor 'pre'", c.norm_placement));
  require(c.positions == "learned" || c.positions == "rotary" || c.positions == "none", "positions",
          fmt::format("'{}' is none of 'learned', 'rotary', 'none'", c.positions));
  require(c.positions != "rotary" || head_dim % 2 == 0, "positions",
          fmt::format("rotary positions need an even number of columns per head; model.dim {} with "
                      "{} heads has {}",
                      c.dim, c.heads, head_dim));
}

uint64_t fnv1a(const std::string& text) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : text) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  }
  return hash;
}

// Element i of the stream `key`, uniform in [-range, range).
float uniform_element(PhiloxKey key, int64_t i, float range) {
  const auto group = static_cast<uint64_t>(i) / 4;
  const PhiloxCounter bits = philox4x32_10(
      {{static_cast<uint32_t>(group), static_cast<uint32_t>(group >> 32), 0, 0}}, key);
  return range * (2.0f * philox_uniform(bits.word[i % 4]) - 1.0f);
}

float initial_value(const ParameterInfo& p, PhiloxKey key, int64_t i) {
  switch (p.initializer) {
    case Initializer::kZeros:
      return 0.0f;
    case Initializer::kOnes:
      return 1.0f;
    case Initializer::kPositions:
      return uniform_element(key, i, kPositionRange);
    case Initializer::kGlorotUniform: {
      const double fans = static_cast<double>(p.shape[0] + p.shape[1]);
      return uniform_element(key, i, static_cast<float>(std::sqrt(6.0 / fans)));
    }
  }
  throw InternalError("parameter {} has no initializer", p.name);
}

}  // namespace

// Collects the parameters in the order of the data flow; kernels get their offsets from one
// counter, everything else from another that starts where the kernels end.
struct ParameterTable::Layout {
  ParameterTable& table;
  int64_t kernels = 0;
  int64_t vectors = 0;
  std::vector<bool> is_kernel;  // per entry

  static int64_t aligned(int64_t n) {
    return (n + kAlignedElements - 1) / kAlignedElements * kAlignedElements;
  }
  int64_t take(int64_t& counter, int64_t elements) {
    const int64_t offset = counter;
    counter += aligned(elements);
    return offset;
  }
  void add(const std::string& name, const Shape& shape, Initializer initializer, int64_t offset,
           int64_t row_stride, bool kernel) {
    table.index_[name] = table.entries_.size();
    table.entries_.push_back({name, shape, initializer, offset, row_stride});
    is_kernel.push_back(kernel);
  }

  void vector(const std::string& name, int64_t n, Initializer initializer) {
    add(name, {n}, initializer, take(vectors, n), n, false);
  }
  void dense(const std::string& name, int64_t in, int64_t out) {
    add(name + ".kernel", {in, out}, Initializer::kGlorotUniform, take(kernels, in * out), out,
        true);
    vector(name + ".bias", out, Initializer::kZeros);
  }
  void norm(const std::string& name, int64_t n) {
    vector(name + ".gamma", n, Initializer::kOnes);
    vector(name + ".beta", n, Initializer::kZeros);
  }
  // Dense layers with the same input as one [in, parts·out] matrix.
  void fused_dense(const std::string& name, const std::vector<std::string>& parts, int64_t in,
                   int64_t out) {
    const int64_t width = static_cast<int64_t>(parts.size()) * out;
    const int64_t kernel = take(kernels, in * width);
    const int64_t bias = take(vectors, width);
    fuse(name + ".kernel", {in, width}, Initializer::kGlorotUniform, kernel, width);
    fuse(name + ".bias", {width}, Initializer::kZeros, bias, width);
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const int64_t column = static_cast<int64_t>(i) * out;
      add(parts[i] + ".kernel", {in, out}, Initializer::kGlorotUniform, kernel + column, width,
          true);
      add(parts[i] + ".bias", {out}, Initializer::kZeros, bias + column, out, false);
    }
  }
  void fuse(const std::string& name, const Shape& shape, Initializer initializer, int64_t offset,
            int64_t row_stride) {
    table.fused_.emplace(name, ParameterInfo{name, shape, initializer, offset, row_stride});
    fused_is_kernel[name] = shape.rank() == 2;
  }
  std::map<std::string, bool> fused_is_kernel;

  void finish() {
    for (std::size_t i = 0; i < table.entries_.size(); ++i) {
      table.entries_[i].offset += is_kernel[i] ? 0 : kernels;
    }
    for (auto& [name, info] : table.fused_) {
      info.offset += fused_is_kernel[name] ? 0 : kernels;
    }
    table.decayed_elements_ = kernels;
    table.block_elements_ = kernels + vectors;
  }
};

ParameterTable::ParameterTable(const ModelConfig& config) {
  check_model(config);
  Layout layout{*this};
  layout.dense("input", config.input_dim, config.dim);
  if (config.positions == "learned") {
    layout.add("pos", {config.max_sequence_length, config.dim}, Initializer::kPositions,
               layout.take(layout.vectors, config.max_sequence_length * config.dim), config.dim,
               false);
  }
  for (int64_t i = 0; i < config.depth; ++i) {
    const std::string block = fmt::format("blocks.{}.", i);
    const std::string attention = block + "attn.";
    layout.fused_dense(attention + "qkv", {attention + "q", attention + "k", attention + "v"},
                       config.dim, config.dim);
    layout.dense(attention + "o", config.dim, config.dim);
    layout.norm(block + "ln1", config.dim);
    layout.dense(block + "ff1", config.dim, config.dim_ff);
    layout.dense(block + "ff2", config.dim_ff, config.dim);
    layout.norm(block + "ln2", config.dim);
  }
  if (config.norm_placement == "pre") {
    layout.norm("final_norm", config.dim);
  }
  std::vector<std::string> hidden;
  hidden.reserve(kStemNames.size());
  for (const auto stem : kStemNames) {
    hidden.push_back(fmt::format("heads.{}.hidden", stem));
  }
  layout.fused_dense("heads.hidden", hidden, config.dim, config.dim);
  for (const auto stem : kStemNames) {
    layout.dense(fmt::format("heads.{}.out", stem), config.dim, config.output_dim);
  }
  layout.finish();
}

const ParameterInfo& ParameterTable::find(const std::string& name) const {
  const auto it = index_.find(name);
  SF_CHECK(it != index_.end(), "the model has no parameter '{}'", name);
  return entries_[it->second];
}

const ParameterInfo& ParameterTable::fused(const std::string& name) const {
  const auto it = fused_.find(name);
  SF_CHECK(it != fused_.end(), "the model has no fused parameter '{}'", name);
  return it->second;
}

int64_t ParameterTable::parameter_count() const {
  int64_t count = 0;
  for (const ParameterInfo& p : entries_) {
    count += p.shape.elements();
  }
  return count;
}

namespace {
TensorView::Strides strides_of(const ParameterInfo& info) {
  return info.shape.rank() == 2 ? TensorView::Strides{info.row_stride, 1} : TensorView::Strides{1};
}
}  // namespace

TensorView ParameterTable::view(const ParameterInfo& info, float* block) {
  return {block + info.offset, DType::kF32, info.shape, strides_of(info)};
}

TensorView ParameterTable::view(const ParameterInfo& info, Bf16* block) {
  return {block + info.offset, DType::kBF16, info.shape, strides_of(info)};
}

ConstTensorView ParameterTable::view(const ParameterInfo& info, const float* block) {
  return {block + info.offset, DType::kF32, info.shape, strides_of(info)};
}

void ParameterTable::initialize(float* block, uint64_t seed) const {
  std::fill_n(block, block_elements_, 0.0f);
  for (const ParameterInfo& p : entries_) {
    const PhiloxKey key = philox_launch_key(seed, fnv1a(p.name), 0,
                                            static_cast<uint32_t>(RandomPurpose::kInitialWeights));
    const int64_t columns = p.shape[-1];
    for (int64_t i = 0; i < p.shape.elements(); ++i) {
      block[p.offset + i / columns * p.row_stride + i % columns] = initial_value(p, key, i);
    }
  }
}

}  // namespace stemfabric
