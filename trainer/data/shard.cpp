#include "trainer/data/shard.h"

#include <array>
#include <bit>
#include <cstdint>
#include <nlohmann/json.hpp>

#include "runtime/core/check.h"
#include "trainer/stems.h"

namespace stemfabric {
namespace {

constexpr int64_t kMaxDimension = int64_t{1} << 24;  // of N, T, F and out

// A tensor with its dtype and rank checked. Sizes are compared once all five are known.
ConstTensorView typed_tensor(const SafetensorsFile& file, const std::string& name, DType dtype,
                             int rank) {
  const ConstTensorView& view = file.at(name);
  if (view.dtype() != dtype || view.rank() != rank) {
    throw InputError("{}: tensor {} is {} {}; expected {} with {} dimensions (docs/dataset.md)",
                     file.path().string(), name, dtype_name(view.dtype()), view.shape().to_string(),
                     dtype_name(dtype), rank);
  }
  return view;
}

void require_shape(const SafetensorsFile& file, const std::string& name,
                   const ConstTensorView& view, const Shape& expected) {
  if (!(view.shape() == expected)) {
    throw InputError("{}: tensor {} has shape {}; inputs and targets of this shard ask for {}",
                     file.path().string(), name, view.shape().to_string(), expected.to_string());
  }
}

// Which element is at fault, as "[3, 0, 17]".
std::string position(const Shape& shape, int64_t index) {
  std::array<int64_t, Shape::kMaxRank> at{};
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    at[static_cast<std::size_t>(axis)] = index % shape[axis];
    index /= shape[axis];
  }
  return Shape(std::span(at).first(static_cast<std::size_t>(shape.rank()))).to_string();
}

bool finite_bits(float value) {
  return (std::bit_cast<uint32_t>(value) & 0x7f800000U) != 0x7f800000U;
}

void require_finite(const SafetensorsFile& file, const std::string& name,
                    const ConstTensorView& view) {
  const float* values = view.as<float>();
  const int64_t count = view.elements();
  uint32_t bad = 0;
  for (int64_t i = 0; i < count; ++i) {  // branch-free: vectorised
    bad |= static_cast<uint32_t>(!finite_bits(values[i]));
  }
  for (int64_t i = 0; bad != 0 && i < count; ++i) {
    if (!finite_bits(values[i])) {
      throw InputError("{}: tensor {} holds {} at {}; every value must be finite",
                       file.path().string(), name, values[i], position(view.shape(), i));
    }
  }
}

void require_mask(const SafetensorsFile& file, const std::string& name,
                  const ConstTensorView& view) {
  const uint8_t* values = view.as<uint8_t>();
  const int64_t count = view.elements();
  uint8_t bits = 0;
  for (int64_t i = 0; i < count; ++i) {
    bits |= values[i];
  }
  for (int64_t i = 0; bits > 1 && i < count; ++i) {
    if (values[i] > 1) {
      throw InputError("{}: tensor {} holds {} at {}; a mask holds 0 and 1 only",
                       file.path().string(), name, values[i], position(view.shape(), i));
    }
  }
}

std::vector<std::string> read_ids(const SafetensorsFile& file, int64_t size) {
  std::vector<std::string> ids;
  const auto found = file.metadata().find("ids");
  if (found == file.metadata().end()) {
    const std::string stem = file.path().stem().string();
    for (int64_t i = 0; i < size; ++i) {
      ids.push_back(fmt::format("{}:{}", stem, i));
    }
    return ids;
  }
  const auto list = nlohmann::json::parse(found->second, nullptr, /*allow_exceptions=*/false);
  bool good = list.is_array() && list.size() == static_cast<std::size_t>(size);
  for (std::size_t i = 0; good && i < list.size(); ++i) {
    good = list[i].is_string();
    if (good) {
      ids.push_back(list[i].get<std::string>());
    }
  }
  if (!good) {
    throw InputError("{}: metadata `ids` is not a JSON list of {} strings, one per sample",
                     file.path().string(), size);
  }
  return ids;
}

}  // namespace

Shard::Shard(const std::filesystem::path& path) : file_(path) {
  ShardTensors& t = tensors_;
  t.inputs = typed_tensor(file_, "inputs", DType::kF32, 3);
  t.input_mask = typed_tensor(file_, "input_mask", DType::kU8, 2);
  t.targets = typed_tensor(file_, "targets", DType::kF32, 4);
  t.target_mask = typed_tensor(file_, "target_mask", DType::kU8, 4);
  t.stem_weight = typed_tensor(file_, "stem_weight", DType::kF32, 2);
  const int64_t n = t.inputs.dim(0);
  const int64_t tokens = t.inputs.dim(1);
  const int64_t out = t.targets.dim(3);
  for (const int64_t dimension : {n, tokens, t.inputs.dim(2), out}) {
    if (dimension < 1 || dimension > kMaxDimension) {
      throw InputError("{}: tensors inputs {} and targets {}: every dimension must be 1 to {}",
                       path.string(), t.inputs.shape().to_string(), t.targets.shape().to_string(),
                       kMaxDimension);
    }
  }
  require_shape(file_, "input_mask", t.input_mask, {n, tokens});
  require_shape(file_, "targets", t.targets, {n, kStemCount, tokens, out});
  require_shape(file_, "target_mask", t.target_mask, {n, kStemCount, tokens, out});
  require_shape(file_, "stem_weight", t.stem_weight, {n, kStemCount});
  require_finite(file_, "inputs", t.inputs);
  require_finite(file_, "targets", t.targets);
  require_finite(file_, "stem_weight", t.stem_weight);
  require_mask(file_, "input_mask", t.input_mask);
  require_mask(file_, "target_mask", t.target_mask);
  for (int64_t i = 0; i < t.stem_weight.elements(); ++i) {
    if (t.stem_weight.as<float>()[i] < 0) {
      throw InputError("{}: tensor stem_weight holds {} at {}; weights must not be negative",
                       path.string(), t.stem_weight.as<float>()[i],
                       position(t.stem_weight.shape(), i));
    }
  }
  ids_ = read_ids(file_, n);
  sha256_ = sha256_file(path);
}

std::string shard_file_name(int64_t index) { return fmt::format("shard-{:05}.safetensors", index); }

std::string write_shard(const std::filesystem::path& path, const ShardTensors& tensors,
                        const std::vector<std::string>& ids) {
  std::map<std::string, std::string> metadata{{"format", "stemfabric-shard"}};
  if (!ids.empty()) {
    metadata["ids"] = nlohmann::json(ids).dump();
  }
  return write_safetensors(path,
                           {{"inputs", tensors.inputs},
                            {"input_mask", tensors.input_mask},
                            {"targets", tensors.targets},
                            {"target_mask", tensors.target_mask},
                            {"stem_weight", tensors.stem_weight}},
                           metadata);
}

}  // namespace stemfabric
