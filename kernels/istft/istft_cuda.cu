// Bound by memory: spectra are read once, but for the frames at the seams of segments, and samples
// written once. As on the CPU, the forward transform is the inverse one with real and imaginary
// parts exchanged on both sides.
//
// As many threads as a transform takes walk over the frames that reach into a segment of the
// signal, in order, and add them up in a ring of n samples in shared memory. A frame that was added
// completes the hop that it begins with: these samples leave the ring.
#include "kernels/istft/istft_cuda.h"

#include "kernels/common/fft_tables_cuda.h"
#include "kernels/stft/frame_load.cuh"

namespace stemfabric::cuda {
namespace {

constexpr int64_t kSegmentFrames = 4;  // length of a segment in units of n samples

struct IstftParameters {
  const float* spectra;
  int64_t spectra_batch_stride, spectra_channel_stride, frame_stride;
  float* signal;
  int64_t batch_stride, channel_stride;
  int64_t samples, hop_length, frames;
  int64_t batch, channels, pairs, segments;
  DeviceFftTables tables;
};

struct IstftShared {
  float2 points[kFftBlockPlaces];
  float2 ring[kFftThreads * kFftPoints];
};

struct Segment {
  const float *left, *right;  // spectra; right may be left again
  float* signal;
  int64_t begin, end;  // samples; empty for spare threads
  bool pair;
};

__device__ __forceinline__ Segment segment_of(const IstftParameters& p, int64_t wanted,
                                              int64_t length) {
  const int64_t total = p.batch * p.pairs * p.segments;
  const int64_t item = min(wanted, total - 1);
  const int64_t b = item / p.segments / p.pairs;
  const int64_t c = item / p.segments % p.pairs * 2;
  const int64_t begin = item % p.segments * length;
  const bool pair = c + 1 < p.channels;
  const float* left = p.spectra + b * p.spectra_batch_stride + c * p.spectra_channel_stride;
  return {.left = left,
          .right = pair ? left + p.spectra_channel_stride : left,
          .signal = p.signal + b * p.batch_stride + c * p.channel_stride,
          .begin = begin,
          .end = wanted < total ? min(p.samples, begin + length) : begin,
          .pair = pair};
}

// A bin of one channel as point k of its transform: bin k, or the conjugate of bin n − k.
template <int kN>
__device__ __forceinline__ float2 load_bin(const float* spectrum, const FftThread<kN>& self,
                                           int r) {
  constexpr int kHalf = kFftPoints / 2;
  const bool mirrored = r >= kHalf;  // for all threads
  const float* bin = mirrored ? spectrum - 2 * self.index + 2 * (kN - r * self.kThreads)
                              : spectrum + 2 * self.index + 2 * r * self.kThreads;
  const bool real = r % kHalf == 0 && self.index == 0;
  const float imaginary = real ? 0.0f : bin[1];
  return make_float2(bin[0], mirrored ? -imaginary : imaginary);
}

// Points of the transform of left + i·right from their spectra, real and imaginary part exchanged.
template <int kN>
__device__ __forceinline__ void load_spectra(float2 (&v)[kFftPoints], const float* left,
                                             const float* right, const FftThread<kN>& self) {
  SF_UNROLL
  for (int r = 0; r < kFftPoints; ++r) {
    const float2 l = load_bin(left, self, r);
    const float2 m = load_bin(right, self, r);
    const float spoiled = 0.0f * (l.x + l.y) + 0.0f * (m.x + m.y);
    v[r] = make_float2(l.y + m.x + spoiled, l.x - m.y + spoiled);
  }
}

// Σ w² over the frames that hold the sample that is sample i of frame t, and frame t or earlier.
template <int kN>
__device__ __forceinline__ float window_squares(const IstftParameters& p, int64_t t, int i) {
  float sum = 0;
  for (; i < kN && t >= 0; i += static_cast<int>(p.hop_length), --t) {
    const float w = t < p.frames ? p.tables.window[i] : 0.0f;
    sum += w * w;
  }
  return sum;
}

// Adds frame t, if there is one, to the ring, and writes the hop that is complete.
template <int kN>
__device__ __forceinline__ void add_frame(const IstftParameters& p, const Segment& at, int64_t t,
                                          const float2* points, float2* ring,
                                          const FftThread<kN>& self) {
  const bool exists = t >= 0 && t < p.frames;
  SF_UNROLL_4
  for (int i = self.index; i < kN; i += self.kThreads) {
    float2& sum = ring[(t * p.hop_length + i) & (kN - 1)];
    if (exists) {
      const float w = p.tables.window[i];
      const float2 z = points[fft_place(i)];
      sum = make_float2(sum.x + w * z.y, sum.y + w * z.x);
    }
    if (i < p.hop_length) {
      const int64_t sample = t * p.hop_length - kN / 2 + i;
      if (sample >= at.begin && sample < at.end) {
        const float below = static_cast<float>(kN) * window_squares<kN>(p, t, i);
        at.signal[sample] = sum.x / below;
        if (at.pair) {
          at.signal[p.channel_stride + sample] = sum.y / below;
        }
      }
      sum = make_float2(0, 0);
    }
  }
}

template <int kN>
__global__ void __launch_bounds__(kFftThreads) istft_kernel(IstftParameters p) {
  auto& shared = *reinterpret_cast<IstftShared*>(dynamic_shared());
  const FftThread<kN> self;
  const Segment at =
      segment_of(p, int64_t{blockIdx.x} * self.kPerBlock + self.transform, kSegmentFrames * kN);
  float2* points = self.points(shared.points);
  float2* ring = shared.ring + self.transform * kN;
  for (int i = self.index; i < kN; i += self.kThreads) {
    ring[i] = make_float2(0, 0);
  }
  // The first frame that ends behind the segment's begin; the last that begins before its end.
  const int64_t first = (at.begin - kN / 2) / p.hop_length + 1;
  const int64_t count = (kSegmentFrames + 1) * kN / p.hop_length - 1;
  for (int64_t t = first; t < first + count; ++t) {
    const int64_t row = min(max(t, int64_t{0}), p.frames - 1) * p.frame_stride;
    float2 v[kFftPoints];
    load_spectra(v, at.left + row, at.right + row, self);
    fft<kN>(v, points, p.tables.roots, self);
    add_frame(p, at, t, points, ring, self);
    __syncthreads();
  }
}

template <int kN>
void launch_istft(const ExecutionContext& ctx, const IstftParameters& p) {
  const int64_t segments = p.batch * p.pairs * p.segments;
  launch(ctx,
         {.kernel = "istft_kernel",
          .grid = grid_size(ceil_div(segments, FftThread<kN>::kPerBlock)),
          .block = kFftThreads,
          .dynamic_shared_bytes = sizeof(IstftShared)},
         istft_kernel<kN>, p);
}

}  // namespace

void istft(const ExecutionContext& ctx, const IstftArgs& args) {
  const ConstTensorView& spectra = args.spectra;
  const TensorView& signal = args.signal;
  WorkspaceScope scope(ctx.workspace());
  const IstftParameters p = {.spectra = spectra.as<float>(),
                             .spectra_batch_stride = spectra.stride(0),
                             .spectra_channel_stride = spectra.stride(1),
                             .frame_stride = spectra.stride(2),
                             .signal = signal.as<float>(),
                             .batch_stride = signal.stride(0),
                             .channel_stride = signal.stride(1),
                             .samples = signal.dim(2),
                             .hop_length = args.hop_length,
                             .frames = spectra.dim(2),
                             .batch = signal.dim(0),
                             .channels = signal.dim(1),
                             .pairs = (signal.dim(1) + 1) / 2,
                             .segments = ceil_div(signal.dim(2), kSegmentFrames * args.n_fft),
                             .tables = device_fft_tables(ctx, scope, args.n_fft)};
  with_fft_size(args.n_fft, [&]<int kN>() { launch_istft<kN>(ctx, p); });
}

}  // namespace stemfabric::cuda
