#include "kernels/istft/istft.h"

#include "kernels/common/dispatch.h"
#include "kernels/istft/istft_cpu.h"
#include "kernels/istft/istft_cuda.h"
#include "kernels/stft/stft.h"

namespace stemfabric {

void istft(const ExecutionContext& ctx, const IstftArgs& args) {
  const char* op = "istft";
  check_tensor(op, "signal", args.signal, DType::kF32, {-1, -1, -1});
  check_stft_sizes(op, args.signal.dim(2), args.n_fft, args.hop_length);
  SF_CHECK(args.hop_length <= args.n_fft / 4,
           "{}: hop_length is {}; only up to n_fft/4, {}, frames overlap enough", op,
           args.hop_length, args.n_fft / 4);
  SF_CHECK(args.signal.stride(2) == 1, "{}: the last stride of signal is {}, not 1", op,
           args.signal.stride(2));
  check_stft_spectra(op, args.spectra, args.signal, args.n_fft, args.hop_length);
  SF_DISPATCH(ctx, istft, args);
}

}  // namespace stemfabric
