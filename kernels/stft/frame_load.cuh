// The samples of frames, as the input of transforms.
#pragma once

#include "kernels/common/fft_core.cuh"

namespace stemfabric::cuda {

// Two channels of one batch sample; right may be left again.
struct ChannelPair {
  const float *left, *right;
  int64_t samples;
};

// Sample i of a signal that is mirrored at both ends.
__device__ __forceinline__ int64_t mirrored(int64_t i, int64_t samples) {
  return i < 0 ? -i : i >= samples ? 2 * (samples - 1) - i : i;
}

// v[r] = window · (left + i·right) at the thread's points of the frame that begins at `begin`. What
// is not finite in one channel is NaN in both, so that all bins will be.
template <int kN>
__device__ __forceinline__ void load_frame(float2 (&v)[kFftPoints], const ChannelPair& channels,
                                           int64_t begin, const float* window,
                                           const FftThread<kN>& self) {
  SF_UNROLL
  for (int r = 0; r < kFftPoints; ++r) {
    const int64_t i = mirrored(begin + self.point(r), channels.samples);
    const float w = window[self.point(r)];
    const float left = channels.left[i];
    const float right = channels.right[i];
    const float spoiled = 0.0f * left + 0.0f * right;
    v[r] = make_float2(w * left + spoiled, w * right + spoiled);
  }
}

// A bin to memory that may lie at any float.
__device__ __forceinline__ void store_bin(float* to, float2 bin, bool aligned) {
  if (aligned) {
    *reinterpret_cast<float2*>(to) = bin;
  } else {
    to[0] = bin.x;
    to[1] = bin.y;
  }
}

// May all rows of these spectra be read and written as pairs of floats?
inline bool bins_are_aligned(const ConstTensorView& spectra) {
  return reinterpret_cast<uintptr_t>(spectra.data()) % sizeof(float2) == 0 &&
         spectra.stride(0) % 2 == 0 && spectra.stride(1) % 2 == 0 && spectra.stride(2) % 2 == 0;
}

}  // namespace stemfabric::cuda
