// What masks on a spectrogram can do at best: estimates of a track's stems by masks that are made
// from the true stems. Baselines above a model's scores, as the plain mixture is one below.
//
// X = spectra of the mixture, Y_j of stem j; stft.h with n_fft and hop_length. What the mixture
// holds besides the stems, X − Σ_j Y_j, is one source more in every sum over i, so that the masks
// of all sources add up to 1. Per frame t and bin k (left out below):
//
//   kRatio    estimate_j[c] = |Y_j[c]| / Σ_i |Y_i[c]| · X[c]              for each channel c
//   kPower    estimate_j[c] = |Y_j[c]|² / Σ_i |Y_i[c]|² · X[c]
//   kWiener   estimate_j = v_j R_j (Σ_i v_i R_i)⁻¹ X                      X, Y ∈ ℂ², R ∈ ℂ²ˣ²
//     A_j[k]  = Σ_t Y_j Y_jᴴ / |Y_j|²      over the frames in which Y_j[t,k] is not 0
//     R_j[k]  = 2 A_j / tr A_j + ρ I       where stem j is in the space of channels; I if A_j = 0
//     v_j     = Y_jᴴ R_j⁻¹ Y_j / 2         its power in the frame
// ρ = 1e-8 keeps R_j regular for a stem that is panned to one place; that is what float32 spectra
// hold besides. kWiener of a mono track is kPower.
//
// Where all sources are 0 so is the estimate. kRatio and kPower are the ideal ratio masks with α =
// 1 and 2, kWiener the multichannel Wiener filter of the oracle methods of SiSEC 2018 (Stöter,
// Liutkus, Ito 2018; the filter: Duong, Vincent, Gribonval 2010).
#pragma once

#include <cstdint>

#include "runtime/core/tensor_view.h"
#include "runtime/device/execution_context.h"

namespace stemfabric {

enum class OracleMask : uint8_t { kRatio, kPower, kWiener };

struct OracleMaskArgs {
  OracleMask mask = OracleMask::kRatio;
  int64_t n_fft = 4096, hop_length = 1024;  // as istft.h allows
  ConstTensorView mixture;                  // [C, N] f32, C = 1 or 2
  ConstTensorView stems;                    // [S, C, N] f32
  TensorView estimates;                     // [S, C, N] f32, written
};

// The last stride of all three is 1; the estimates overlap nothing. ctx: the CPU's. Memory beside
// the arguments does not grow with N. Spectra in float32, the filter in float64; the same bits for
// any number of threads. InputError if the track has n_fft/2 samples or less.
void separate_by_oracle_masks(const ExecutionContext& ctx, const OracleMaskArgs& args);

}  // namespace stemfabric
