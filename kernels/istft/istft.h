// Inverse short-time Fourier transform: overlap-add with window normalisation.
//
//   x[b,c,n] = Σ_t w[i] · y[b,c,t,i] / Σ_t w[i]²,   i = n − t·hop_length + n_fft/2 in [0, n_fft)
//   y[b,c,t] = inverse real transform of X[b,c,t]; w as in stft.h
// as torch.istft(center=True, length=N) has it. istft(stft(x)) = x within float32 rounding, to the
// last sample. Imaginary parts of the bins 0 and n_fft/2 are not read.
//
//   tensor  | shape           | dtype | written | note
//   spectra | [B, C, T, K, 2] | f32   |         | re, im; any outer strides, [K, 2] dense
//   signal  | [B, C, N]       | f32   | =       | any outer strides, last stride 1; N > n_fft/2
// T = 1 + floor(N/hop_length), K = n_fft/2 + 1. n_fft: a power of two, 512 … 4096. hop_length
// divides n_fft and is n_fft/4 or less: with half overlap, what follows the last frame's centre
// would be divided by next to nothing.
// Deterministic. A frame that holds a NaN or an infinity makes NaN of the n_fft samples under it,
// in its channel and in the one that shares its transform (0 and 1, 2 and 3 …), and of no others,
// as long as bins are below 1e30.
#pragma once

#include "runtime/core/tensor_view.h"
#include "runtime/device/execution_context.h"

namespace stemfabric {

struct IstftArgs {
  ConstTensorView spectra;
  int64_t n_fft = 0, hop_length = 0;
  TensorView signal;
};
void istft(const ExecutionContext& ctx, const IstftArgs& args);

}  // namespace stemfabric
