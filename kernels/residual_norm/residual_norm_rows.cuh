// What the forward and the backward kernels of residual_norm share: the dropout of a vector of
// channels, and how rows are spread over threads.
#pragma once

#include <algorithm>

#include "kernels/common/block_reduce.cuh"
#include "kernels/common/philox.h"
#include "kernels/common/vector.cuh"

namespace stemfabric::cuda {

// The dropout of a launch; threshold 0 keeps everything as it is.
struct Dropout {
  uint32_t threshold;
  float scale;
  PhiloxKey key;
  uint32_t sample0, tokens_per_sample;
  const PhiloxKey* key_at;  // if not null: where the key is
};
// Where a row's random numbers are.
struct DropoutRow {
  uint32_t token, sample;
  PhiloxKey key;
};

// Rows are counted in 32 bits, which makes the division below cheap.
inline Dropout dropout_of(const DropoutConfig& config, int64_t tokens_per_sample, int64_t rows) {
  constexpr int64_t kMost = 0x7FFFFFFF;
  SF_CHECK(rows <= kMost, "residual_norm: {} rows, a GPU takes up to {}", rows, kMost);
  return {.threshold = dropout_threshold(config.p),
          .scale = dropout_scale(config.p),
          .key = config.key,
          .sample0 = static_cast<uint32_t>(config.sample0),
          .tokens_per_sample = static_cast<uint32_t>(std::min(tokens_per_sample, kMost)),
          .key_at = config.key_at};
}

__device__ __forceinline__ DropoutRow dropout_row(const Dropout& dropout, int64_t row) {
  const auto r = static_cast<uint32_t>(row);
  return {r % dropout.tokens_per_sample, dropout.sample0 + r / dropout.tokens_per_sample,
          dropout.key_at != nullptr ? *dropout.key_at : dropout.key};
}

__device__ __forceinline__ float keep_or_drop(const Dropout& dropout, uint32_t lane, float value) {
  return lane >= dropout.threshold ? value * dropout.scale : 0.0f;
}

// dropout(v) of the channels channel … channel + kWidth − 1. Of the eight lanes of a counter only
// kWidth are used, which costs arithmetic that the memory traffic hides: 10 rounds for 4 elements.
template <int kWidth>
__device__ __forceinline__ FloatVector<kWidth> drop(const Dropout& dropout, const DropoutRow& row,
                                                    int64_t channel, FloatVector<kWidth> v) {
  static_assert(kWidth == 1 || kWidth == 4);
  const PhiloxCounter bits =
      philox4x32_10({{static_cast<uint32_t>(channel / 8), row.token, row.sample, 0}}, row.key);
  const bool upper = (channel & 4) != 0;
  const uint32_t words[2] = {upper ? bits.word[2] : bits.word[0],
                             upper ? bits.word[3] : bits.word[1]};
  if constexpr (kWidth == 4) {
    for (int k = 0; k < 4; ++k) {
      const uint32_t lane = k % 2 == 0 ? words[k / 2] & 0xFFFFu : words[k / 2] >> 16;
      v.lane[k] = keep_or_drop(dropout, lane, v.lane[k]);
    }
  } else {
    const uint32_t word = (channel & 2) != 0 ? words[1] : words[0];
    const uint32_t lane = (channel & 1) != 0 ? word >> 16 : word & 0xFFFFu;
    v.lane[0] = keep_or_drop(dropout, lane, v.lane[0]);
  }
  return v;
}

// Rows of up to this many channels are held in registers, if vectors of four can be used. Other
// rows of that length are done by a warp, and longer ones by a block of kLongRowThreads.
inline constexpr int64_t kMostChannelsInRegisters = 1024;
inline constexpr int kLongRowThreads = 256;

// kLanes threads hold a row, kChunks vectors of four each.
template <int kLanes_, int kChunks_>
struct RowShape {
  static constexpr int kLanes = kLanes_;
  static constexpr int kChunks = kChunks_;
};

}  // namespace stemfabric::cuda
