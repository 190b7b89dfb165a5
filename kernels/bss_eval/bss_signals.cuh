// What bss_eval's kernels share: the signals that are left when silent ones are put aside.
#pragma once

#include "kernels/bss_eval/bss_eval.h"
#include "kernels/bss_eval/bss_fft.cuh"
#include "runtime/memory/workspace.h"

namespace stemfabric::cuda {

// Handed to kernels by value. A signal is one channel.
struct BssSignals {
  int p = 0, q = 0;  // how many references, estimates: C of each source that is not zero, is scored
  int channels = 0, taps = 0;
  int64_t length = 0;
  int own[kMaxBssSignals] = {};  // per scored source: where its C signals start in references
  const float* references[kMaxBssSignals] = {};
  const float* estimates[kMaxBssSignals] = {};

  int scored() const { return q / channels; }
  // Samples that a block of the overlapped transforms adds.
  __host__ __device__ int64_t step() const { return kBssFft - taps + 1; }
};

// How many spectra are in memory at a time: 17 MB, and blocks enough for a GPU of 132
// multiprocessors.
inline constexpr int64_t kBssSpectraAtOnce = 512;

// The roots of the transforms, made on the context's stream.
const BssComplex* bss_roots(const ExecutionContext& ctx, WorkspaceScope& scope);

// R_xy[l] = Σ_t x[t] y[t+l] for l < taps.
struct BssCorrelations {
  double* gram;   // [p, p, taps]: of references k, k'
  double* cross;  // [p, q, taps]: of reference k and estimate d
};
void bss_correlate(const ExecutionContext& ctx, const BssSignals& signals, const BssComplex* roots,
                   const BssCorrelations& out);

// Spectra that hold the factor 1/kBssFft, which bss_inverse leaves out.
struct BssFilters {
  BssComplex* all;  // [q, p, kBssBins]: estimate d from every reference
  BssComplex* own;  // [q, C, kBssBins]: estimate d from the references of its source
};
// NaN where a signal that takes part is not finite. Waits for the stream.
void bss_projection_filters(const ExecutionContext& ctx, const BssSignals& signals,
                            const BssComplex* roots, const BssFilters& out);

// Sums of squares over samples; s: reference, y: estimate, Q and P: the projections of y on its own
// source and on all.
enum BssEnergy : int {
  kBssTarget,        // s
  kBssError,         // y − s
  kBssSpatial,       // Q − s
  kBssOwn,           // Q
  kBssInterference,  // P − Q
  kBssAll,           // P
  kBssArtefacts,     // y − P
  kBssOwnError,      // y − Q
  kBssEnergies
};

// The frames of a call, each cut into blocks, its items; last the whole signal if it is wanted.
struct BssFrames {
  int64_t count = 0, window = 0, hop = 0;  // window is at most the length
  bool whole = false;
  const uint8_t* dropped = nullptr;  // [count]: frames without values

  __host__ __device__ int64_t blocks(const BssSignals& signals, int64_t samples) const {
    return (samples + signals.taps - 1 + signals.step() - 1) / signals.step();
  }
  // The first item of a frame.
  __host__ __device__ int64_t first(const BssSignals& signals, int64_t frame) const {
    return frame * blocks(signals, window);
  }
  __host__ __device__ int64_t items(const BssSignals& signals) const {
    return first(signals, count) + (whole ? blocks(signals, signals.length) : 0);
  }
};
// parts: [items, q, kBssEnergies]; undefined for dropped frames.
void bss_frame_energies(const ExecutionContext& ctx, const BssSignals& signals,
                        const BssComplex* roots, const BssFilters& filters, const BssFrames& frames,
                        double* parts);

}  // namespace stemfabric::cuda
