#include "trainer/export/web_weights.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "runtime/core/check.h"
#include "runtime/core/dtype.h"

namespace stemfabric {
namespace {

constexpr const char* kNames[] = {"fp32", "fp16", "int8"};

// Numbers from here on round to infinity.
constexpr float kHalfOverflow = 65520.0F;
constexpr float kSmallestNormalHalf = 0x1p-14F;

uint16_t half_bits(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 16 & 0x8000U;
  const float magnitude = std::abs(value);
  if (!(magnitude < kHalfOverflow)) {
    throw InputError("the weight {} is too large for fp16", value);
  }
  if (magnitude < kSmallestNormalHalf) {  // multiples of 2^-24; nearbyint rounds ties to even
    return static_cast<uint16_t>(sign | static_cast<uint32_t>(std::nearbyint(magnitude * 0x1p24F)));
  }
  uint32_t rest = bits & 0x7FFFFFFFU;
  rest += 0xFFFU + (rest >> 13 & 1U);
  return static_cast<uint16_t>(sign | ((rest >> 13) - ((127U - 15U) << 10)));
}

PackedWeights pack_halves(std::span<const float> weights) {
  PackedWeights packed;
  for (const float weight : weights) {
    const uint16_t half = half_bits(weight);
    char raw[sizeof(half)];
    std::memcpy(raw, &half, sizeof(half));
    packed.bytes.append(raw, sizeof(raw));
    packed.unpacked.push_back(float_from_f16(half));
  }
  return packed;
}

PackedWeights pack_bytes(std::span<const float> weights) {
  PackedWeights packed;
  const auto [least, most] = std::ranges::minmax(weights);
  packed.min = least;
  packed.scale = (double{most} - least) / 255.0;
  for (const float weight : weights) {
    const double level = packed.scale > 0.0 ? (double{weight} - least) / packed.scale : 0.0;
    const auto q = static_cast<uint8_t>(std::clamp(std::nearbyint(level), 0.0, 255.0));
    packed.bytes += static_cast<char>(q);
    packed.unpacked.push_back(static_cast<float>(q * packed.scale + packed.min));
  }
  return packed;
}

}  // namespace

WebWeights parse_web_weights(const std::string& text) {
  const auto* found = std::ranges::find(kNames, text);
  if (found == std::end(kNames)) {
    throw UsageError("--web-weights: '{}' is none of fp32, fp16, int8", text);
  }
  return static_cast<WebWeights>(found - std::begin(kNames));
}

const char* web_weights_name(WebWeights kind) { return kNames[static_cast<int>(kind)]; }

bool is_packed(const std::string& parameter) {
  return parameter == "pos" || parameter.ends_with(".kernel");
}

PackedWeights pack_weights(std::span<const float> weights, WebWeights kind) {
  SF_CHECK(kind != WebWeights::kFp32 && !weights.empty());
  return kind == WebWeights::kFp16 ? pack_halves(weights) : pack_bytes(weights);
}

ModelWeights rounded_weights(const ModelWeights& weights, WebWeights kind) {
  const ParameterTable& table = weights.table();
  std::vector<float> block(weights.block(), weights.block() + table.block_elements());
  for (const ParameterInfo& parameter : table.entries()) {
    if (!is_packed(parameter.name)) {
      continue;
    }
    const Tensor exact = weights.tensor(parameter.name);
    const auto count = static_cast<std::size_t>(exact.elements());
    const std::vector<float> rounded = pack_weights({exact.as<float>(), count}, kind).unpacked;
    const int64_t columns = parameter.shape[1];
    for (int64_t row = 0; row < parameter.shape[0]; ++row) {
      std::copy_n(rounded.data() + row * columns, columns,
                  block.data() + parameter.offset + row * parameter.row_stride);
    }
  }
  return {weights.config(), std::move(block), weights.statistics()};
}

}  // namespace stemfabric
