// Philox4x32-10, a counter-based generator: 128 random bits for a 128-bit counter and a 64-bit key.
// The same bits on CPU and CUDA, for any number of threads, ranks or tiles.
// Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#pragma once

#include <cstdint>

#include "runtime/core/host_device.h"

namespace stemfabric {

struct PhiloxCounter {
  uint32_t word[4];
};
struct PhiloxKey {
  uint32_t word[2];
};

SF_HOST_DEVICE inline PhiloxCounter philox4x32_10(PhiloxCounter c, PhiloxKey k) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c.word[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57u} * c.word[2];
    c = {{static_cast<uint32_t>(p1 >> 32) ^ c.word[1] ^ k.word[0], static_cast<uint32_t>(p1),
          static_cast<uint32_t>(p0 >> 32) ^ c.word[3] ^ k.word[1], static_cast<uint32_t>(p0)}};
    k.word[0] += 0x9E3779B9u;
    k.word[1] += 0xBB67AE85u;
  }
  return c;
}

// The key of one launch: words 0 and 1 of Philox(counter (step lo, step hi, layer, purpose), seed).
SF_HOST_DEVICE inline PhiloxKey philox_launch_key(uint64_t seed, uint64_t step, uint32_t layer,
                                                  uint32_t purpose) {
  const PhiloxCounter c = philox4x32_10(
      {{static_cast<uint32_t>(step), static_cast<uint32_t>(step >> 32), layer, purpose}},
      {{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)}});
  return {{c.word[0], c.word[1]}};
}

// 16-bit lane n of a result: word n/2, low half if n is even, high half if odd.
SF_HOST_DEVICE inline uint32_t philox_lane16(const PhiloxCounter& c, int n) {
  return (n & 1) != 0 ? c.word[n >> 1] >> 16 : c.word[n >> 1] & 0xFFFFu;
}

// Uniform in [0, 1) with 24 bits, from one 32-bit word.
SF_HOST_DEVICE inline float philox_uniform(uint32_t word) {
  return static_cast<float>(word >> 8) * 0x1p-24f;
}

// Dropout of one launch. An element is kept if its 16-bit lane >= round(65536 p); kept values are
// scaled by 1 / (1 - threshold/65536). p = 0 switches it off.
struct DropoutConfig {
  float p = 0.0f;
  PhiloxKey key{};      // philox_launch_key(...)
  int64_t sample0 = 0;  // global index of the batch's first sample
  // On a device, if not null: where its memory holds the key, so that a captured launch can be done
  // again with another one.
  const PhiloxKey* key_at = nullptr;
};
SF_HOST_DEVICE inline uint32_t dropout_threshold(float p) {
  // Not lround: this must be the same arithmetic on CPU and GPU.
  return static_cast<uint32_t>(p * 65536.0f + 0.5f);  // NOLINT(bugprone-incorrect-roundings)
}
SF_HOST_DEVICE inline float dropout_scale(float p) {
  return 65536.0f / static_cast<float>(65536u - dropout_threshold(p));
}

}  // namespace stemfabric
