// The features that a frame has by its neighbours. A block takes kTile frames of one batch sample,
// a thread one band of all of them; the band powers of these frames and of their neighbours lie in
// shared memory.
#pragma once

#include "kernels/common/block_reduce.cuh"
#include "kernels/stft_features/features_device.cuh"

namespace stemfabric::cuda::features {

inline constexpr int kTile = 16;
inline constexpr int kContextThreads = kSpectralFeatures;
inline constexpr int kTileRows = kTile + 2 * kMedianReach;

struct ContextParameters {
  FeatureBands band;
  FeatureRows rows;
  int64_t tiles;  // of a batch sample
};

struct ContextShared {
  float powers[kTileRows][kSpectralFeatures];  // row i: frame begin − kMedianReach + i
  float densities[kTile][kSpectralFeatures];
  float harmonic[kTile][kSpectralFeatures];
  float percussive[kTile][kSpectralFeatures];
};

__device__ __forceinline__ void order(float& low, float& high) {
  const float least = fminf(low, high);
  high = fmaxf(low, high);
  low = least;
}

// The median of 17 values: of the first ten, the least and the largest cannot be it; they leave,
// the next value comes, and so on to the last three. load(i) gives the values.
template <typename Load>
__device__ __forceinline__ float median17(const Load& load) {
  constexpr int kHeld = kMedianWidth / 2 + 2;
  float v[kHeld];
  SF_UNROLL
  for (int i = 0; i < kHeld; ++i) {
    v[i] = load(i);
  }
  SF_UNROLL
  for (int last = kHeld - 1; last >= 2; --last) {
    if (last < kHeld - 1) {
      v[0] = load(kMedianWidth + 1 - last);
    }
    SF_UNROLL
    for (int i = 0; i < (last + 1) / 2; ++i) {
      order(v[i], v[last - i]);
    }
    SF_UNROLL
    for (int i = 1; i <= last / 2; ++i) {
      order(v[0], v[i]);
      order(v[last - i], v[last]);
    }
  }
  return v[1];
}

__device__ __forceinline__ void load_powers(const ContextParameters& p, int64_t b, int64_t begin,
                                            float inverse_width, ContextShared& shared) {
  const int j = static_cast<int>(threadIdx.x);
  for (int i = 0; i < kTileRows; ++i) {
    const int64_t t = min(max(begin - kMedianReach + i, int64_t{0}), p.rows.frames - 1);
    const float power = p.rows.bands_at(b, t)[j];
    shared.powers[i][j] = power;
    if (i >= kMedianReach && i < kMedianReach + kTile) {
      shared.densities[i - kMedianReach][j] = power * inverse_width;
    }
  }
}

// The harmonic and the percussive part of the thread's band, in frame f of the tile.
__device__ __forceinline__ void separate_band(int f, float inverse_width, ContextShared& shared) {
  const int j = static_cast<int>(threadIdx.x);
  float spoiled = 0;  // NaN if a frame of the window is, else 0
  const float over_time = inverse_width * median17([&](int i) {
                            const float power = shared.powers[f + i][j];
                            spoiled += 0 * power;
                            return power;
                          });
  const float over_bands = median17([&](int i) {
    return shared.densities[f][min(max(j - kMedianReach + i, 0), kSpectralFeatures - 1)];
  });
  const float part =
      shared.powers[f + kMedianReach][j] / (over_time + over_bands + kPowerFloor) + spoiled;
  shared.harmonic[f][j] = part * over_time;
  shared.percussive[f][j] = part * over_bands;
}

__device__ __forceinline__ float group_power(const float* parts, int g, int groups) {
  float sum = 0;
  for (int j = group_begin(g, groups); j < group_begin(g + 1, groups); ++j) {
    sum += parts[j];
  }
  return sum;
}

// By one warp.
__device__ __forceinline__ float flux(const float* now, const float* before) {
  float rise = 0;
  float level = 0;
  for (int j = static_cast<int>(threadIdx.x) % kWarpLanes; j < kSpectralFeatures; j += kWarpLanes) {
    const float a = sqrtf(now[j]);
    const float difference = a - sqrtf(before[j]);
    rise += fmaxf(0, difference) + 0 * difference;
    level += a;
  }
  rise = warp_sum(rise);
  return rise / (warp_sum(level) + kAmplitudeFloor);
}

__device__ __forceinline__ void describe_tile(const ContextParameters& p) {
  auto& shared = shared_storage<ContextShared>();
  const int j = static_cast<int>(threadIdx.x);
  const int64_t b = blockIdx.x / p.tiles;
  const int64_t begin = blockIdx.x % p.tiles * kTile;
  const float inverse_width = 1 / static_cast<float>(p.band.edges[j + 1] - p.band.edges[j]);
  load_powers(p, b, begin, inverse_width, shared);
  __syncthreads();
  for (int f = 0; f < kTile; ++f) {
    separate_band(f, inverse_width, shared);
  }
  __syncthreads();
  // A warp writes a frame.
  constexpr int kWarps = kContextThreads / kWarpLanes;
  const int lane = j % kWarpLanes;
  for (int f = j / kWarpLanes; f < kTile && begin + f < p.rows.frames; f += kWarps) {
    float* features = p.rows.features_at(b, begin + f);
    static_assert(kHarmonicFeatures == kWarpLanes && kPercussiveFeatures <= kWarpLanes);
    features[kHarmonicBegin + lane] =
        log_power(group_power(shared.harmonic[f], lane, kHarmonicFeatures));
    if (lane < kPercussiveFeatures) {
      features[kPercussiveBegin + lane] =
          log_power(group_power(shared.percussive[f], lane, kPercussiveFeatures));
    }
    const float rise = flux(shared.powers[f + kMedianReach], shared.powers[f + kMedianReach - 1]);
    if (lane == 0) {
      features[kFlux] = rise;
    }
  }
}

}  // namespace stemfabric::cuda::features
