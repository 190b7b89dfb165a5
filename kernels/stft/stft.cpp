#include "kernels/stft/stft.h"

#include "kernels/common/dispatch.h"
#include "kernels/common/fft_tables.h"
#include "kernels/stft/stft_cpu.h"
#include "kernels/stft/stft_cuda.h"

namespace stemfabric {

void check_stft_sizes(const char* op, int64_t samples, int64_t n_fft, int64_t hop_length) {
  SF_CHECK(is_fft_size(n_fft), "{}: n_fft is {}, it must be a power of two from {} to {}", op,
           n_fft, kMinFftSize, kMaxFftSize);
  SF_CHECK(hop_length > 0 && n_fft % hop_length == 0,
           "{}: hop_length is {}, it must divide n_fft, {}", op, hop_length, n_fft);
  SF_CHECK(samples > n_fft / 2,
           "{}: the signal has {} samples; mirroring its ends needs more than n_fft/2, {}", op,
           samples, n_fft / 2);
}

void check_stft_spectra(const char* op, const ConstTensorView& spectra,
                        const ConstTensorView& signal, int64_t n_fft, int64_t hop_length) {
  check_tensor(
      op, "spectra", spectra, DType::kF32,
      {signal.dim(0), signal.dim(1), stft_frames(signal.dim(2), hop_length), stft_bins(n_fft), 2});
  SF_CHECK(spectra.stride(4) == 1 && spectra.stride(3) == 2,
           "{}: the last two axes of spectra must be dense, their strides are {} and {}", op,
           spectra.stride(3), spectra.stride(4));
}

void stft(const ExecutionContext& ctx, const StftArgs& args) {
  const char* op = "stft";
  check_tensor(op, "signal", args.signal, DType::kF32, {-1, -1, -1});
  check_stft_sizes(op, args.signal.dim(2), args.n_fft, args.hop_length);
  SF_CHECK(args.signal.stride(2) == 1, "{}: the last stride of signal is {}, not 1", op,
           args.signal.stride(2));
  check_stft_spectra(op, args.spectra, args.signal, args.n_fft, args.hop_length);
  SF_DISPATCH(ctx, stft, args);
}

}  // namespace stemfabric
