// Short-time Fourier transform of audio.
//
//   X[b,c,t,k] = Σ_{n=0}^{n_fft−1} w[n] · x̃[b,c, t·hop_length + n − n_fft/2] · exp(−2πi·k·n/n_fft)
//   w[n] = sin²(πn/n_fft), the periodic Hann window
//   x̃    = x, mirrored at both ends: x̃[−i] = x[i], x̃[N−1+i] = x[N−1−i]
//   k = 0 … K−1, K = n_fft/2 + 1;  t = 0 … T−1, T = 1 + floor(N/hop_length)
// as torch.stft(center=True, pad_mode="reflect", normalized=False) has it.
//
//   tensor  | shape           | dtype | written | note
//   signal  | [B, C, N]       | f32   |         | any outer strides, last stride 1; N > n_fft/2
//   spectra | [B, C, T, K, 2] | f32   | =       | re, im; any outer strides, [K, 2] dense
// n_fft: a power of two, 512 … 4096. hop_length divides n_fft. Any number of channels; each two of
// them share one complex transform.
// Deterministic. A frame that holds a NaN or an infinity is NaN in all its bins; so is the same
// frame of the channel that shares its transform (0 and 1, 2 and 3 …). Nothing else is, as long
// as samples are below 1e30.
#pragma once

#include "runtime/core/tensor_view.h"
#include "runtime/device/execution_context.h"

namespace stemfabric {

struct StftArgs {
  ConstTensorView signal;
  int64_t n_fft = 0, hop_length = 0;
  TensorView spectra;
};
void stft(const ExecutionContext& ctx, const StftArgs& args);

// Frames T of a signal of N samples; bins K of a transform.
constexpr int64_t stft_frames(int64_t samples, int64_t hop_length) {
  return 1 + samples / hop_length;
}
constexpr int64_t stft_bins(int64_t n_fft) { return n_fft / 2 + 1; }

// The conditions above on the sizes of a transform and on the length of its signal, for all ops
// that are built on it; an InternalError that begins with the op's name and says which does not
// hold.
void check_stft_sizes(const char* op, int64_t samples, int64_t n_fft, int64_t hop_length);
// spectra [B, C, T, K, 2] of a signal [B, C, N]: shape, dtype and strides.
void check_stft_spectra(const char* op, const ConstTensorView& spectra,
                        const ConstTensorView& signal, int64_t n_fft, int64_t hop_length);

}  // namespace stemfabric
