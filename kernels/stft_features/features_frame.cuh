// The features that a frame has by itself. A block transforms 4096 points: one frame or several,
// each by n/16 threads of its own; the powers of a bin and of its mirror then take the place of
// their two points.
#pragma once

#include "kernels/common/block_reduce.cuh"
#include "kernels/common/fft_core.cuh"
#include "kernels/stft/frame_load.cuh"
#include "kernels/stft_features/features_device.cuh"

namespace stemfabric::cuda::features {

struct FrameParameters {
  FeatureBands band;
  PitchRange pitch;
  float bin_octaves;  // f of bin k, in octaves above kPitchLowest: log2(k) + bin_octaves
  float scale;        // of powers
  const float* signal;
  int64_t signal_batch_stride, channel_stride;
  int64_t samples, hop_length;
  float* spectra;  // or null
  int64_t spectra_batch_stride, spectra_channel_stride, spectra_frame_stride;
  bool spectra_aligned;
  int64_t batch;
  FeatureRows rows;
  DeviceFftTables tables;
};

// Sums of a band or over all bins.
enum Power : int { kMid, kSide, kDifference, kPhase, kPowers };  // kDifference: right − left
// Of a frame as a whole.
enum Total : int { kLeftTotal, kRightTotal, kMidTotal, kSideTotal, kSquares, kCrossings, kTotals };

struct PitchCandidate {
  float salience;
  int bin;
};

template <int kN>
struct FrameShared {
  static constexpr int kPerBlock = FftThread<kN>::kPerBlock;
  float2 points[kFftBlockPlaces];
  float real_difference[kPerBlock][2];  // of bins 0 and n/2
  float bands[kPerBlock][kPowers][kSpectralFeatures];
  float totals[kFftThreads / kWarpLanes][kTotals];  // of each warp
  PitchCandidate pitch[kFftThreads / kWarpLanes];
};

template <int kN>
class FrameBlock {
 public:
  __device__ __forceinline__ explicit FrameBlock(const FrameParameters& p)
      : p_(p), shared_(*reinterpret_cast<FrameShared<kN>*>(dynamic_shared())) {
    const int64_t wanted = int64_t{blockIdx.x} * self_.kPerBlock + self_.transform;
    const int64_t total = p.batch * p.rows.frames;
    const int64_t item = min(wanted, total - 1);
    spare_ = wanted >= total;  // does the last frame again, and writes nothing
    b_ = item / p.rows.frames;
    t_ = item % p.rows.frames;
    points_ = self_.points(shared_.points);
    const float* left = p.signal + b_ * p.signal_batch_stride;
    channels_ = {.left = left, .right = left + p.channel_stride, .samples = p.samples};
  }

  __device__ __forceinline__ void run() {
    float2 v[kFftPoints];
    load_frame(v, channels_, t_ * p_.hop_length - kN / 2, p_.tables.window, self_);
    fft<kN>(v, points_, p_.tables.roots, self_);
    float totals[kTotals] = {};
    form_powers(totals);
    measure_hop(totals);
    for (int i = 0; i < kTotals; ++i) {
      totals[i] = warp_sum(totals[i]);
      if (threadIdx.x % kWarpLanes == 0) {
        shared_.totals[threadIdx.x / kWarpLanes][i] = totals[i];
      }
    }
    __syncthreads();
    sum_bands();
    find_pitch();
    __syncthreads();
    if (!spare_) {
      write();
    }
  }

 private:
  static constexpr int kThreads = FftThread<kN>::kThreads;
  static constexpr int kWarps = kThreads / kWarpLanes;

  static __device__ __forceinline__ float norm(float2 x) { return x.x * x.x + x.y * x.y; }

  __device__ __forceinline__ void form_powers(float* totals) {
    float* to = p_.spectra + b_ * p_.spectra_batch_stride + t_ * p_.spectra_frame_stride;
    const bool store = p_.spectra != nullptr && !spare_;
    for (int k = self_.index; k <= kN / 2; k += kThreads) {
      const StereoBins x = stereo_bins<kN>(points_, k);
      if (store) {
        store_bin(to + 2 * k, x.left, p_.spectra_aligned);
        store_bin(to + p_.spectra_channel_stride + 2 * k, x.right, p_.spectra_aligned);
      }
      const bool real = k % (kN / 2) == 0;
      const float scale = real ? 0.5f * p_.scale : p_.scale;
      const float left = scale * norm(x.left);
      const float right = scale * norm(x.right);
      const float mid = 0.25f * scale * norm(x.left + x.right);
      const float side = 0.25f * scale * norm(x.left - x.right);
      const float phase = scale * (x.left.y * x.right.x - x.left.x * x.right.y);
      points_[fft_place(k)] = make_float2(mid, side);
      if (real) {
        shared_.real_difference[self_.transform][k == 0 ? 0 : 1] = right - left;
      } else {
        points_[fft_place(kN - k)] = make_float2(right - left, phase);
      }
      totals[kLeftTotal] += left;
      totals[kRightTotal] += right;
      totals[kMidTotal] += mid;
      totals[kSideTotal] += side;
    }
  }

  // The mid signal in the middle hop of the frame.
  __device__ __forceinline__ void measure_hop(float* totals) {
    const int64_t begin = t_ * p_.hop_length - p_.hop_length / 2;
    const auto middle = [&](int64_t i) {
      const int64_t at = mirrored(begin + i, p_.samples);
      return channels_.left[at] + channels_.right[at];
    };
    for (int64_t i = self_.index; i < p_.hop_length; i += kThreads) {
      const float now = middle(i);
      totals[kSquares] += now * now;
      totals[kCrossings] += (now < 0) != (middle(i - 1) < 0) ? 1.0f : 0.0f;
    }
  }

  // Eight threads per band.
  __device__ __forceinline__ void sum_bands() {
    constexpr int kLanes = 8;
    const int lane = self_.index % kLanes;
    for (int j = self_.index / kLanes; j < kSpectralFeatures; j += kThreads / kLanes) {
      float sums[kPowers] = {};
      for (int k = p_.band.edges[j] + lane; k < p_.band.edges[j + 1]; k += kLanes) {
        const float2 first = points_[fft_place(k)];
        sums[kMid] += first.x;
        sums[kSide] += first.y;
        if (k % (kN / 2) == 0) {
          sums[kDifference] += shared_.real_difference[self_.transform][k == 0 ? 0 : 1];
        } else {
          const float2 second = points_[fft_place(kN - k)];
          sums[kDifference] += second.x;
          sums[kPhase] += second.y;
        }
      }
      for (int i = 0; i < kPowers; ++i) {
        const float sum = warp_sum<kLanes>(sums[i]);
        if (lane == 0) {
          shared_.bands[self_.transform][i][j] = sum;
        }
      }
    }
  }

  __device__ __forceinline__ float salience(int k) const {
    float sum = 0;
    float weight = 1;
    for (int h = 1; h <= kPitchHarmonics && h * k <= kN / 2; ++h) {
      sum += weight * sqrtf(points_[fft_place(h * k)].x);
      weight *= kHarmonicDecay;
    }
    return sum;
  }
  static __device__ __forceinline__ PitchCandidate better(PitchCandidate a, PitchCandidate b) {
    return b.salience > a.salience || (b.salience == a.salience && b.bin < a.bin) ? b : a;
  }

  __device__ __forceinline__ void find_pitch() {
    PitchCandidate best = {.salience = 0, .bin = kN};
    for (int k = p_.pitch.first + self_.index; k <= p_.pitch.last; k += kThreads) {
      best = better(best, {.salience = salience(k), .bin = k});
    }
    for (int offset = kWarpLanes / 2; offset > 0; offset /= 2) {
      const float other = __shfl_xor_sync(kFullWarp, best.salience, offset);
      best = better(best, {other, __shfl_xor_sync(kFullWarp, best.bin, offset)});
    }
    if (threadIdx.x % kWarpLanes == 0) {
      shared_.pitch[threadIdx.x / kWarpLanes] = best;
    }
  }

  __device__ __forceinline__ float pitch() const {
    PitchCandidate best = shared_.pitch[self_.transform * kWarps];
    for (int w = 1; w < kWarps; ++w) {
      best = better(best, shared_.pitch[self_.transform * kWarps + w]);
    }
    if (best.salience <= kAmplitudeFloor) {
      return 0;
    }
    float vertex = 0;
    if (best.bin > p_.pitch.first && best.bin < p_.pitch.last) {
      const float below = salience(best.bin - 1);
      const float above = salience(best.bin + 1);
      const float bend = 2 * best.salience - below - above;
      vertex = bend > 0 ? 0.5f * (above - below) / bend : 0;
    }
    return log2f(static_cast<float>(best.bin) + vertex) + p_.bin_octaves;
  }

  __device__ __forceinline__ float total(int which) const {
    float sum = 0;
    for (int w = 0; w < kWarps; ++w) {
      sum += shared_.totals[self_.transform * kWarps + w][which];
    }
    return sum;
  }

  __device__ __forceinline__ void write() const {
    float* features = p_.rows.features_at(b_, t_);
    float* bands = p_.rows.bands_at(b_, t_);
    for (int j = self_.index; j < kSpectralFeatures; j += kThreads) {
      const float power = shared_.bands[self_.transform][kMid][j];
      bands[j] = power;
      features[j] = log_power(power);
    }
    if (self_.index < kStereoGroups) {
      write_stereo(self_.index, features + kStereoBegin + self_.index * kStereoValues);
    }
    if (self_.index < kEnergyFeatures) {
      features[kEnergyBegin + self_.index] = log_power(total(kLeftTotal + self_.index));
    }
    if (self_.index == kThreads - 1) {
      write_whole(features);
    }
  }

  __device__ __forceinline__ void write_stereo(int g, float* to) const {
    float sums[kPowers] = {};
    for (int j = group_begin(g, kStereoGroups); j < group_begin(g + 1, kStereoGroups); ++j) {
      for (int i = 0; i < kPowers; ++i) {
        sums[i] += shared_.bands[self_.transform][i][j];
      }
    }
    const float below = sums[kMid] + sums[kSide] + kPowerFloor;
    const float both = 2 * (sums[kMid] + sums[kSide]) + kPowerFloor;  // left and right
    to[0] = sums[kSide] / below;
    to[1] = sums[kDifference] / both;
    to[2] = 2 * sums[kPhase] / both;
  }

  __device__ __forceinline__ void write_whole(float* features) const {
    const float mid = total(kMidTotal);
    const float side = total(kSideTotal);
    const float spoiled = 0 * (mid + side);  // NaN if the frame is not finite
    const auto hop = static_cast<float>(p_.hop_length);
    features[kCorrelation] = (mid - side) / (mid + side + kPowerFloor);
    features[kRms] = 0.5f * sqrtf(total(kSquares) / hop) + spoiled;
    features[kZeroCrossings] = total(kCrossings) / hop + spoiled;
    features[kPitch] = pitch() + spoiled;
  }

  const FrameParameters& p_;
  FrameShared<kN>& shared_;
  FftThread<kN> self_;
  float2* points_;
  ChannelPair channels_;
  int64_t b_, t_;
  bool spare_;
};

}  // namespace stemfabric::cuda::features
