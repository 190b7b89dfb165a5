#include "kernels/stft_features/stft_features.h"

#include "kernels/common/dispatch.h"
#include "kernels/stft/stft.h"
#include "kernels/stft_features/stft_features_cpu.h"
#include "kernels/stft_features/stft_features_cuda.h"

namespace stemfabric {

void stft_features(const ExecutionContext& ctx, const StftFeaturesArgs& args) {
  const char* op = "stft_features";
  const ConstTensorView& signal = args.signal;
  check_tensor(op, "signal", signal, DType::kF32, {-1, 2, -1});
  check_stft_sizes(op, signal.dim(2), args.n_fft, args.hop_length);
  SF_CHECK(args.hop_length <= args.n_fft / 2,
           "{}: hop_length is {}; features need frames that overlap by half, n_fft/2 is {}", op,
           args.hop_length, args.n_fft / 2);
  SF_CHECK(args.sample_rate >= kLowestSampleRate && args.sample_rate <= kHighestSampleRate,
           "{}: sample_rate is {}, it must be from {} to {}", op, args.sample_rate,
           kLowestSampleRate, kHighestSampleRate);
  SF_CHECK(signal.stride(2) == 1, "{}: the last stride of signal is {}, not 1", op,
           signal.stride(2));
  check_tensor(op, "features", args.features, DType::kF32,
               {signal.dim(0), stft_frames(signal.dim(2), args.hop_length), kAudioFeatures});
  SF_CHECK(args.features.stride(2) == 1, "{}: the last stride of features is {}, not 1", op,
           args.features.stride(2));
  if (args.spectra) {
    check_stft_spectra(op, args.spectra, signal, args.n_fft, args.hop_length);
  }
  SF_DISPATCH(ctx, stft_features, args);
}

}  // namespace stemfabric
