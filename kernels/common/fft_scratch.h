// Scratch memory of one transform on the CPU.
#pragma once

#include "kernels/common/fft_tables.h"
#include "runtime/memory/workspace.h"

namespace stemfabric {

// Complex numbers with real and imaginary parts in arrays of their own.
struct SplitComplex {
  float* re;
  float* im;
};

// Two pairs of n + 1 floats that the steps of a transform go back and forth between.
struct FftScratch {
  SplitComplex first, second;

  // Rows lie 64-byte aligned and not a multiple of 4096 bytes apart, lest their elements compete
  // for the same places of the first-level cache.
  static constexpr int64_t row(int64_t n) { return n + 16; }
  static constexpr int64_t floats(int64_t n) { return 4 * row(n); }
  static FftScratch in(float* memory, int64_t n) {
    return {{memory, memory + row(n)}, {memory + 2 * row(n), memory + 3 * row(n)}};
  }
};

}  // namespace stemfabric
