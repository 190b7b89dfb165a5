// bfloat16: the upper half of a float32, that is its range with 8 bits of precision. Rounded to the
// nearest, ties to even; beyond the largest bfloat16 infinity; a NaN becomes 0x7FFF, as GPUs do it,
// so that the bits are the same everywhere.
#pragma once

#include <cstdint>

#include "runtime/core/dtype.h"
#include "runtime/core/host_device.h"

namespace stemfabric {

struct Bf16 {
  uint16_t bits;
};
template <>
struct DTypeOf<Bf16> {
  static constexpr DType value = DType::kBF16;
};

SF_HOST_DEVICE inline uint32_t bf16_bits(float value) {
  const auto bits = __builtin_bit_cast(uint32_t, value);
  const bool nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
  return nan ? 0x7FFFu : (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
}
SF_HOST_DEVICE inline Bf16 to_bf16(float value) {
  return {static_cast<uint16_t>(bf16_bits(value))};
}
SF_HOST_DEVICE inline float from_bf16(Bf16 value) {
  return __builtin_bit_cast(float, uint32_t{value.bits} << 16);
}
SF_HOST_DEVICE inline float round_to_bf16(float value) { return from_bf16(to_bf16(value)); }

// Two in a word, the first in its lower half.
SF_HOST_DEVICE inline uint32_t pack_bf16(float low, float high) {
#if defined(__CUDA_ARCH__)
  uint32_t word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
#else
  return bf16_bits(high) << 16 | bf16_bits(low);
#endif
}
SF_HOST_DEVICE inline float low_bf16(uint32_t word) {
  return __builtin_bit_cast(float, word << 16);
}
SF_HOST_DEVICE inline float high_bf16(uint32_t word) {
  return __builtin_bit_cast(float, word & 0xFFFF0000u);
}

}  // namespace stemfabric
