// Bound by memory: samples are read once per hop that they lie in, the overlaps from the cache;
// spectra are written once. A block transforms 4096 points: one frame of two channels or several.
#include "kernels/stft/stft_cuda.h"

#include "kernels/common/fft_tables_cuda.h"
#include "kernels/stft/frame_load.cuh"

namespace stemfabric::cuda {
namespace {

struct StftParameters {
  const float* signal;
  int64_t batch_stride, channel_stride;
  int64_t samples, hop_length;
  float* spectra;
  int64_t spectra_batch_stride, spectra_channel_stride, frame_stride;
  int64_t batch, channels, pairs, frames;
  bool aligned;
  DeviceFftTables tables;
};

template <int kN>
__global__ void __launch_bounds__(kFftThreads) stft_kernel(StftParameters p) {
  auto* block = reinterpret_cast<float2*>(dynamic_shared());
  const FftThread<kN> self;
  const int64_t wanted = int64_t{blockIdx.x} * self.kPerBlock + self.transform;
  const int64_t total = p.batch * p.pairs * p.frames;
  const int64_t item = min(wanted, total - 1);  // spare threads do the last frame again
  const int64_t t = item % p.frames;
  const int64_t b = item / p.frames / p.pairs;
  const int64_t c = item / p.frames % p.pairs * 2;
  const bool pair = c + 1 < p.channels;

  const float* left = p.signal + b * p.batch_stride + c * p.channel_stride;
  float2 v[kFftPoints];
  load_frame(v, {left, pair ? left + p.channel_stride : left, p.samples}, t * p.hop_length - kN / 2,
             p.tables.window, self);
  float2* points = self.points(block);
  fft<kN>(v, points, p.tables.roots, self);
  if (wanted >= total) {
    return;
  }
  float* to =
      p.spectra + b * p.spectra_batch_stride + c * p.spectra_channel_stride + t * p.frame_stride;
  for (int k = self.index; k <= kN / 2; k += self.kThreads) {
    const StereoBins bins = stereo_bins<kN>(points, k);
    store_bin(to + 2 * k, bins.left, p.aligned);
    if (pair) {
      store_bin(to + p.spectra_channel_stride + 2 * k, bins.right, p.aligned);
    }
  }
}

template <int kN>
void launch_stft(const ExecutionContext& ctx, const StftParameters& p) {
  const int64_t frames = p.batch * p.pairs * p.frames;
  launch(ctx,
         {.kernel = "stft_kernel",
          .grid = grid_size(ceil_div(frames, FftThread<kN>::kPerBlock)),
          .block = kFftThreads,
          .dynamic_shared_bytes = kFftBlockPlaces * sizeof(float2)},
         stft_kernel<kN>, p);
}

}  // namespace

void stft(const ExecutionContext& ctx, const StftArgs& args) {
  const ConstTensorView& signal = args.signal;
  const TensorView& spectra = args.spectra;
  WorkspaceScope scope(ctx.workspace());
  const StftParameters p = {.signal = signal.as<float>(),
                            .batch_stride = signal.stride(0),
                            .channel_stride = signal.stride(1),
                            .samples = signal.dim(2),
                            .hop_length = args.hop_length,
                            .spectra = spectra.as<float>(),
                            .spectra_batch_stride = spectra.stride(0),
                            .spectra_channel_stride = spectra.stride(1),
                            .frame_stride = spectra.stride(2),
                            .batch = signal.dim(0),
                            .channels = signal.dim(1),
                            .pairs = (signal.dim(1) + 1) / 2,
                            .frames = spectra.dim(2),
                            .aligned = bins_are_aligned(spectra),
                            .tables = device_fft_tables(ctx, scope, args.n_fft)};
  with_fft_size(args.n_fft, [&]<int kN>() { launch_stft<kN>(ctx, p); });
}

}  // namespace stemfabric::cuda
