// What gemm_cpu.cpp hands to the SIMD code of gemm_kernel-inl.h.
#pragma once

#include <cstdint>

namespace stemfabric {

// A range of k whose packed B fits the scratch.
struct GemmBlock {
  int64_t k0, k1;
  float* packed_b;
};

// A range of row panels times a range of column panels of C.
struct GemmTile {
  int64_t row_panel0, row_panel1;
  int64_t column_panel0, column_panel1;
};

}  // namespace stemfabric
