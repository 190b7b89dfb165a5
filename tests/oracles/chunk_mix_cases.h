// Chunks that test and benchmark of chunk_mix share, and how their parts lie in memory.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/chunk_mix/chunk_mix.h"
#include "tests/oracles/chunk_mix_oracle.h"
#include "tests/support/op_harness.h"

namespace stemfabric::test {

// P − 1 stems and a remainder: of both types, with both signs of the factor, with channels as they
// are and changed, whole, ending early and absent.
inline MixCase mix_case(const std::string& name, int64_t b, int64_t p, int64_t s, int64_t c,
                        int64_t n, bool mixed_types = true) {
  MixCase result{name, b, p, s, c, n, {}};
  for (int64_t i = 0; i < b * p; ++i) {
    MixPart part{.floats = mixed_types && i % 3 == 1,
                 .samples = {},
                 .factor = (i % 2 == 0 ? 1.0F : -1.0F) * (0.3F + 0.17F * static_cast<float>(i % 7)),
                 .swap = i % 4 >= 2};
    const int64_t frames = i % 5 == 3 ? n / 3 : i % 5 == 4 ? std::max<int64_t>(n - 1, 1) : n;
    if (!mixed_types || i % 6 != 5) {
      const auto values = GuardedTensor::random({c, frames}, static_cast<uint64_t>(i) + 1).values();
      for (const double value : values) {
        part.samples.push_back(part.floats ? value : std::floor(value * 32768));
      }
      part.factor *= part.floats ? 1.0F : 0x1p-15F;
    }
    result.parts.push_back(std::move(part));
  }
  return result;
}

inline std::vector<MixCase> chunk_mix_cases() {
  return {
      mix_case("odd", 3, 7, 6, 2, 601),     mix_case("vectors", 2, 7, 6, 2, 5000),
      mix_case("tile", 1, 7, 6, 2, 4096),   mix_case("no_remainder", 2, 3, 3, 2, 1028),
      mix_case("mono", 2, 4, 3, 1, 36),     mix_case("three_channels", 2, 5, 2, 3, 44),
      mix_case("one_frame", 1, 7, 6, 2, 1),
  };
}

struct PackedParts {
  std::vector<unsigned char> pcm;
  std::vector<ChunkPart> parts;
};
inline PackedParts pack(const MixCase& in) {
  PackedParts packed;
  for (const MixPart& part : in.parts) {
    if (part.samples.empty()) {
      packed.parts.emplace_back();
      continue;
    }
    const PcmType type = part.floats ? PcmType::kF32 : PcmType::kI16;
    const int64_t frames = static_cast<int64_t>(part.samples.size()) / in.c;
    packed.parts.push_back({.begin = static_cast<int64_t>(packed.pcm.size()),
                            .frames = static_cast<int32_t>(frames),
                            .factor = part.factor,
                            .type = type,
                            .swap = part.swap ? 1U : 0U});
    for (int64_t c = 0; c < in.c; ++c) {
      const std::size_t at = packed.pcm.size();
      packed.pcm.resize(at + static_cast<std::size_t>(pcm_channel_bytes(type, frames)), 0xFF);
      for (int64_t n = 0; n < frames; ++n) {
        const double sample = part.samples[static_cast<std::size_t>(c * frames + n)];
        const auto size = static_cast<std::size_t>(pcm_sample_bytes(type));
        unsigned char* to = packed.pcm.data() + at + static_cast<std::size_t>(n) * size;
        if (part.floats) {
          const auto value = static_cast<float>(sample);
          std::memcpy(to, &value, size);
        } else {
          const auto value = static_cast<int16_t>(sample);
          std::memcpy(to, &value, size);
        }
      }
    }
  }
  return packed;
}

}  // namespace stemfabric::test
