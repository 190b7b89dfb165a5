// BSS-Eval version 4: how well estimates of sources match their references, in dB (Vincent,
// Gribonval, Févotte 2006; Stöter, Liutkus, Ito, "The 2018 Signal Separation Evaluation Campaign").
// The same definitions and edge rules as museval 0.4.1.
//
// S sources, C channels, N samples, L = taps; signals are zero outside 0 … N−1. For estimate y_j
// and each of its channels d, by least squares over t = 0 … N+L−2:
//   P[d,t] = Σ_{k,c,τ<L} a[k,c,τ,d] s[k,c,t−τ]     projection on all sources
//   Q[d,t] = Σ_{c,τ<L}   b[c,τ,d]   s[j,c,t−τ]     projection on source j alone
// One set of filters serves the whole signal. In a frame, its samples of the references alone are
// filtered (zeros before and after), and sums run over channels and its W + L − 1 output samples:
//   SDR = 10 log10 |s|² / |y − s|²     ISR = 10 log10 |s|² / |Q − s|²
//   SIR = 10 log10 |Q|² / |P − Q|²     SAR = 10 log10 |P|² / |y − P|²
//   source SDR = 10 log10 |Q|² / |y − Q|²          (bss_eval_sources, for one channel)
// A denominator of exactly 0 gives +inf.
// Frame f is samples f·hop … f·hop + window − 1, frames F = ⌊(N − window + hop) / hop⌋; if
// window ≥ N there is one, the whole signal.
//
// Silent: the sum of the channels is exactly 0 at every sample.
// - A frame in which any source is silent, reference or estimate, is NaN in all measures of all
//   sources.
// - A source whose reference or estimate is silent from beginning to end (museval refuses these) is
//   NaN everywhere, and that signal does not make frames of the others NaN.
//
//   tensor     | shape     | dtype | written | note
//   references | [S, C, N] | f32   |         | any strides, last stride 1
//   estimates  | [S, C, N] | f32   |         | the same; estimate j belongs to reference j
//   frames     | [4, S, F] | f64   | =       | optional, contiguous: SDR, ISR, SIR, SAR
//   whole      | [5, S]    | f64   | =       | optional, contiguous: these and source SDR of the
//              |           |       |         | whole signal as one frame
//   silent     | [2, S]    | u8    | =       | optional, contiguous: 1 where the reference, the
//              |           |       |         | estimate is silent from beginning to end
// Where a signal is not finite, whatever its projections take part in is NaN.
// All arithmetic in float64. Where references depend on each other, A + load · mean(diagonal) · I
// takes the place of the Gram matrix A, with the smallest load of 0, 1e-15, 1e-14, … that makes it
// positive definite. Deterministic. On a device the call waits for the stream: which signals are
// silent and which load is needed decide what is computed.
#pragma once

#include "runtime/core/tensor_view.h"
#include "runtime/device/execution_context.h"

namespace stemfabric {

inline constexpr int64_t kBssTaps = 512;       // what the field uses, and the most there can be
inline constexpr int64_t kMaxBssSignals = 64;  // S · C

struct BssEvalArgs {
  ConstTensorView references, estimates;
  int64_t window = 0, hop = 0;  // samples
  int64_t taps = kBssTaps;
  TensorView frames, whole, silent;
};
void bss_eval(const ExecutionContext& ctx, const BssEvalArgs& args);

// F of a signal of `length` samples.
int64_t bss_frame_count(int64_t length, int64_t window, int64_t hop);

}  // namespace stemfabric
