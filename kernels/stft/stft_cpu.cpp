// A task is a few frames of one or two channels. The transform of left + i·right holds both
// spectra: with Z its bins, left = (Z[k] + Z̄[n−k])/2 and right = (Z[k] − Z̄[n−k])/2i.
#include "kernels/stft/stft_cpu.h"

#include "kernels/common/fft_scratch.h"
#include "kernels/common/parallel_for.h"
#include "kernels/stft/frame_source.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/stft/stft_cpu.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "kernels/common/fft_simd-inl.h"
#include "kernels/stft/stft_frame-inl.h"

HWY_BEFORE_NAMESPACE();
namespace stemfabric::HWY_NAMESPACE {

// Spectra of a frame; `right` and `to_right` may be null.
void stft_frame(const FftTables& tables, const FftScratch& scratch, const float* left,
                const float* right, float* to_left, float* to_right) {
  const SplitComplex z = frame_transform(tables, scratch, left, right != nullptr ? right : left);
  for_bins(tables.n, [&](auto d, int k) HWY_ATTR {
    const auto bins = stereo_bins(d, z, tables.n, k);
    hn::StoreInterleaved2(bins.left.re, bins.left.im, d, to_left + 2 * k);
    if (to_right != nullptr) {
      hn::StoreInterleaved2(bins.right.re, bins.right.im, d, to_right + 2 * k);
    }
  });
}

}  // namespace stemfabric::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stemfabric {
HWY_EXPORT(stft_frame);
}  // namespace stemfabric

namespace stemfabric::cpu {

void stft(const ExecutionContext& ctx, const StftArgs& args) {
  constexpr int64_t kFramesPerTask = 8;
  const FftTables& tables = fft_tables(args.n_fft);
  const ConstTensorView& signal = args.signal;
  const TensorView& spectra = args.spectra;
  const int64_t channels = signal.dim(1);
  const int64_t samples = signal.dim(2);
  const int64_t frames = spectra.dim(2);
  const int64_t pairs = (channels + 1) / 2;
  const int64_t blocks = (frames + kFramesPerTask - 1) / kFramesPerTask;
  const int64_t tasks = signal.dim(0) * pairs * blocks;

  WorkspaceScope scope(ctx.workspace());
  const int64_t row = FftScratch::row(args.n_fft);
  const int64_t floats = FftScratch::floats(args.n_fft) + 2 * row;
  auto* memory = scope.take<float>(scratch_slots(ctx, tasks) * floats);
  parallel_tasks(ctx, tasks, [&](int64_t task, int64_t slot) {
    const int64_t b = task / blocks / pairs;
    const int64_t c = task / blocks % pairs * 2;
    const bool pair = c + 1 < channels;
    float* copies = memory + slot * floats;
    const FftScratch scratch = FftScratch::in(copies + 2 * row, args.n_fft);
    const float* left = signal.as<float>() + b * signal.stride(0) + c * signal.stride(1);
    const int64_t begin = task % blocks * kFramesPerTask;
    for (int64_t t = begin; t < std::min(frames, begin + kFramesPerTask); ++t) {
      const auto samples_of = [&](const float* channel, float* copy) {
        return frame_samples(channel, samples, args.n_fft, args.hop_length, t, copy);
      };
      float* to = spectra.as<float>() + b * spectra.stride(0) + c * spectra.stride(1) +
                  t * spectra.stride(2);
      HWY_DYNAMIC_DISPATCH(stft_frame)
      (tables, scratch, samples_of(left, copies),
       pair ? samples_of(left + signal.stride(1), copies + row) : nullptr, to,
       pair ? to + spectra.stride(1) : nullptr);
    }
  });
}

}  // namespace stemfabric::cpu
#endif  // HWY_ONCE
