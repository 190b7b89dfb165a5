// CUDA implementation of bss_eval.h; arguments are validated. Work, for p = q = S · C signals, B
// blocks of 4096 samples that overlap by L − 1 (twice: for the correlations, and for the frames
// with the whole signal), m = L, n = p · m unknowns:
//
//   correlations   (2p + q) B transforms, 8 · 2049 · p (p + q) B FLOPs of products; the spectra
//                  of a few blocks at a time, so that they stay in the L2 cache
//   factorisation  some 2 p n² FLOPs and 16 n² bytes; 4 n² of them are the factor that is kept
//   filters        2 q n² FLOPs, 8 n² bytes for each four of the q columns, from the cache
//                  where the factor fits there
//   frames         (p + 2q) B transforms, 8 · 2049 · q (p + C) B FLOPs of products
//
// Four stereo sources of 3 minutes at 44.1 kHz (p = q = 8, B = 2215 and 4560, n = 4096) are some
// 40 GFLOP and 20 GB, most of the latter from the cache: 1 ms at 40 TFLOP/s in float64, 5 ms at
// 4 TB/s. What counts besides is latency: a factorisation and its solution are 3 L launches, one
// after the other, twice. These are counts; nothing was timed.
#pragma once

#include "kernels/bss_eval/bss_eval.h"

namespace stemfabric::cuda {

void bss_eval(const ExecutionContext& ctx, const BssEvalArgs& args);

}  // namespace stemfabric::cuda
