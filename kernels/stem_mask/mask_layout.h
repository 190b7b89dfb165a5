// How the outputs of a frame lie (planes of one value per band), and the loss's settings as the
// kernels want them; shared by CPU and CUDA.
#pragma once

#include <cmath>

#include "kernels/common/philox.h"  // SF_HOST_DEVICE
#include "kernels/stem_mask/stem_mask.h"

namespace stemfabric {

// A plane is one part of one mask: [bands] as outputs, [K] as a mask.
struct MaskLayout {
  int bands = 0, bins = 0, channels = 0;
  int parts = 0;        // of a mask: 1 real, 2 complex
  bool shared = false;  // one mask for all channels

  SF_HOST_DEVICE int planes() const { return shared ? parts : channels * parts; }
  SF_HOST_DEVICE int first_plane(int channel) const { return shared ? 0 : channel * parts; }
  // Masks, and the channels that one is for.
  SF_HOST_DEVICE int masks() const { return shared ? 1 : channels; }
  SF_HOST_DEVICE int first_channel(int mask) const { return shared ? 0 : mask; }
  SF_HOST_DEVICE int end_channel(int mask) const { return shared ? channels : mask + 1; }
};

template <typename Args>
MaskLayout mask_layout(const Args& args) {
  const int64_t bands = args.first_bin.dim(0);
  const int parts = args.kind == MaskKind::kComplex ? 2 : 1;
  return {.bands = static_cast<int>(bands),
          .bins = static_cast<int>(args.mixture.dim(3)),
          .channels = static_cast<int>(args.mixture.dim(1)),
          .parts = parts,
          .shared = args.prediction.dim(3) == bands * parts};
}

// How magnitudes are compressed: not compared at all (their weight is 0), |z|, √|z|, |z|^p.
enum class MaskCompression : uint8_t { kNone, kLinear, kRoot, kPower };

// An exponent as the sum of two floats: the head has 12 bits, so that its products with integers
// below 4096 are exact.
struct MaskExponent {
  float head, tail;
};
inline MaskExponent mask_exponent(double value) {
  const int shift = 12 - std::ilogb(value);
  const double head = std::ldexp(std::trunc(std::ldexp(value, shift - 1)), 1 - shift);
  return {static_cast<float>(head), static_cast<float>(value - head)};
}

struct MaskLossRule {
  MaskCompression compression;
  float magnitude_weight, complex_weight, power, epsilon2;
  MaskExponent half_power;  // |z|^p = (|z|²)^(p/2)
};

inline MaskLossRule mask_loss_rule(const MaskLossArgs& args) {
  const auto compression = args.magnitude_weight == 0 ? MaskCompression::kNone
                           : args.compression == 1    ? MaskCompression::kLinear
                           : args.compression == 0.5  ? MaskCompression::kRoot
                                                      : MaskCompression::kPower;
  return {.compression = compression,
          .magnitude_weight = static_cast<float>(args.magnitude_weight),
          .complex_weight = static_cast<float>(args.complex_weight),
          .power = static_cast<float>(args.compression),
          .epsilon2 = static_cast<float>(args.epsilon * args.epsilon),
          .half_power = mask_exponent(args.compression / 2)};
}

}  // namespace stemfabric
