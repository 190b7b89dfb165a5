// 256 features of each frame of stereo audio, from one transform of left + i·right.
//
// L, R: the spectra of stft.h; M = (L + R)/2, S = (L − R)/2: mid and side. Powers are those of the
// signal under the window, whatever n_fft: the p_Y[k] of a frame add up to its mean square,
//   p_Y[k] = c_k |Y[k]|² / (n_fft Σw²),  q[k] = c_k Im(L[k] R̄[k]) / (n_fft Σw²),  Y = L, R, M, S
//   c_k = 1 for k = 0 and k = n_fft/2, else 2;  Σw² = 3/8 n_fft
// E_Y(A), Q(A): their sums over a set of bins A. Sets are unions of the 128 bands of
// feature_bands.h: band j, and group g of G: bands floor(128·g/G) … floor(128·(g+1)/G) − 1.
// ε = kPowerFloor; log10 of powers: −10 (nothing) … 0.
//
//   group      | features | value
//   spectral   | 128      | log10(E_M(j) + ε) of each band j
//   stereo     | 64       | of each of 21 groups: side ratio E_S/(E_M + E_S + ε), pan
//              |          | (E_R − E_L)/(E_L + E_R + ε), phase 2Q/(E_L + E_R + ε); at last, of all
//              |          | bins, the correlation (E_M − E_S)/(E_M + E_S + ε)
//   harmonic   | 32       | log10(Σ_j E_M(j) H_j/(H_j + V_j + ε) + ε) of each of 32 groups
//   percussive | 24       | log10(Σ_j E_M(j) V_j/(H_j + V_j + ε) + ε) of each of 24 groups
//   temporal   | 4        | RMS, zero crossings, pitch, flux
//   energy     | 4        | log10(E + ε) of all bins of L, R, M, S
// in this order. Pan is −1 (left) … 1; the phase, −1 … 1, is positive where left leads. The three
// values of a group are what there is to know of the powers of two channels and of their product:
// the Stokes parameters of polarised light, divided by the first.
//
// H_j, V_j: medians of the density E_M(j) / (number of bins of j) over the frames t − 8 … t + 8,
// and over the bands j − 8 … j + 8; beyond an end, the last frame or band counts again. What lasts
// is harmonic, what is wide is percussive (Fitzgerald, "Harmonic/percussive separation using median
// filtering", DAFx 2010, with its soft mask, on bands).
// With m = (left + right)/2 and i over the hop_length samples t·hop_length − hop_length/2 … :
//   RMS            √(mean of m[i]²)
//   zero crossings the share of i where just one of m[i−1], m[i] is below 0
//   pitch          log2(f / kPitchLowest) of the f between kPitchLowest and kPitchHighest with the
//                  largest s = Σ_{h=1}^{5} 0.8^{h−1} √p_M[h·k], h·k <= n_fft/2; k runs over bins, f
//                  is the vertex of the parabola through s at the best k and its neighbours (at the
//                  ends of the range, k itself); the lowest of equals; 0 where no s is above √ε
//   flux           Σ_j max(0, a_j[t] − a_j[t−1]) / (Σ_j a_j[t] + √ε), a_j = √E_M(j); 0 at t = 0
//
//   tensor   | shape           | dtype | written | note
//   signal   | [B, 2, N]       | f32   |         | any outer strides, last stride 1; N > n_fft/2
//   features | [B, T, 256]     | f32   | =       | any outer strides, last stride 1
//   spectra  | [B, 2, T, K, 2] | f32   | =       | optional: as stft writes them
// T = 1 + floor(N/hop_length), K = n_fft/2 + 1. n_fft: a power of two, 512 … 4096; hop_length
// divides it and is n_fft/2 or less. Sample rates: 8000 … 192000 Hz.
// Features of frame t depend on the frames t − kFeatureContextFrames … t + kFeatureContextFrames.
// Deterministic. A frame that holds a NaN or an infinity, in either channel, is NaN in all its
// features; so are harmonic and percussive of the 8 frames before and after it, and the flux of the
// frame after it. Nothing else is, as long as samples are below 1e15.
#pragma once

#include "kernels/stft_features/feature_layout.h"
#include "runtime/core/tensor_view.h"
#include "runtime/device/execution_context.h"

namespace stemfabric {

struct StftFeaturesArgs {
  ConstTensorView signal;
  int64_t sample_rate = 0;
  int64_t n_fft = 0, hop_length = 0;
  TensorView features;
  TensorView spectra = {};
};
void stft_features(const ExecutionContext& ctx, const StftFeaturesArgs& args);

}  // namespace stemfabric
