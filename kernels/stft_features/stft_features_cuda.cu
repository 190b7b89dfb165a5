// Two kernels: one transforms frames and writes what each has by itself, and its band powers to the
// workspace, 512 bytes per frame; the other takes medians and flux from these. Bound by memory:
// samples once (overlaps come from the cache), 256 features once, band powers once each way.
#include "kernels/stft_features/stft_features_cuda.h"

#include <cmath>

#include "kernels/common/fft_tables_cuda.h"
#include "kernels/stft_features/features_context.cuh"
#include "kernels/stft_features/features_frame.cuh"

namespace stemfabric::cuda {
namespace {

using namespace features;  // NOLINT: this file is their only user

template <int kN>
__global__ void __launch_bounds__(kFftThreads)
    features_frame_kernel(const __grid_constant__ FrameParameters p) {
  FrameBlock<kN>(p).run();
}

__global__ void __launch_bounds__(kContextThreads)
    features_context_kernel(const __grid_constant__ ContextParameters p) {
  describe_tile(p);
}

template <int kN>
void launch_frames(const ExecutionContext& ctx, const FrameParameters& p) {
  launch(ctx,
         {.kernel = "features_frame_kernel",
          .grid = grid_size(ceil_div(p.batch * p.rows.frames, FftThread<kN>::kPerBlock)),
          .block = kFftThreads,
          .dynamic_shared_bytes = sizeof(FrameShared<kN>)},
         features_frame_kernel<kN>, p);
}

FrameParameters frame_parameters(const StftFeaturesArgs& args, const FeatureRows& rows,
                                 const DeviceFftTables& tables) {
  const ConstTensorView& signal = args.signal;
  const TensorView& spectra = args.spectra;
  const double bin_hz = static_cast<double>(args.sample_rate) / static_cast<double>(args.n_fft);
  FrameParameters p = {.band = feature_bands(args.n_fft),
                       .pitch = pitch_range(args.n_fft, args.sample_rate),
                       .bin_octaves = static_cast<float>(std::log2(bin_hz / kPitchLowest)),
                       .scale = power_scale(args.n_fft),
                       .signal = signal.as<float>(),
                       .signal_batch_stride = signal.stride(0),
                       .channel_stride = signal.stride(1),
                       .samples = signal.dim(2),
                       .hop_length = args.hop_length,
                       .spectra = nullptr,
                       .spectra_batch_stride = 0,
                       .spectra_channel_stride = 0,
                       .spectra_frame_stride = 0,
                       .spectra_aligned = false,
                       .batch = signal.dim(0),
                       .rows = rows,
                       .tables = tables};
  if (spectra) {
    p.spectra = spectra.as<float>();
    p.spectra_batch_stride = spectra.stride(0);
    p.spectra_channel_stride = spectra.stride(1);
    p.spectra_frame_stride = spectra.stride(2);
    p.spectra_aligned = bins_are_aligned(spectra);
  }
  return p;
}

}  // namespace

void stft_features(const ExecutionContext& ctx, const StftFeaturesArgs& args) {
  const int64_t batch = args.features.dim(0);
  const int64_t frames = args.features.dim(1);
  WorkspaceScope scope(ctx.workspace());
  const FeatureRows rows = {.features = args.features.as<float>(),
                            .batch_stride = args.features.stride(0),
                            .frame_stride = args.features.stride(1),
                            .bands = scope.take<float>(batch * frames * kSpectralFeatures),
                            .frames = frames};
  const FrameParameters p = frame_parameters(args, rows, device_fft_tables(ctx, scope, args.n_fft));
  with_fft_size(args.n_fft, [&]<int kN>() { launch_frames<kN>(ctx, p); });
  const int64_t tiles = ceil_div(frames, kTile);
  launch(ctx,
         {.kernel = "features_context_kernel",
          .grid = grid_size(batch * tiles),
          .block = kContextThreads},
         features_context_kernel, ContextParameters{.band = p.band, .rows = rows, .tiles = tiles});
}

}  // namespace stemfabric::cuda
