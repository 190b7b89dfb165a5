// What the two kernels of stft_features share.
#pragma once

#include "kernels/common/launch.cuh"
#include "kernels/stft_features/feature_bands.h"

namespace stemfabric::cuda::features {

// Where features go, and the band powers that the first kernel leaves to the second.
struct FeatureRows {
  float* features;
  int64_t batch_stride, frame_stride;
  float* bands;  // [B, T, 128]
  int64_t frames;
  __device__ __forceinline__ float* features_at(int64_t b, int64_t t) const {
    return features + b * batch_stride + t * frame_stride;
  }
  __device__ __forceinline__ float* bands_at(int64_t b, int64_t t) const {
    return bands + (b * frames + t) * kSpectralFeatures;
  }
};

// log10(E + ε)
__device__ __forceinline__ float log_power(float power) { return log10f(power + kPowerFloor); }

}  // namespace stemfabric::cuda::features
