// Packing, micro-kernel and epilogue of gemm() for one SIMD target (Highway).
//
// A and B are copied into panels so that the innermost loop reads memory in a straight line:
//   packed A: for each panel of kRows rows,    k-major: a[k][kRows]
//   packed B: for each panel of kColumns columns, k-major: b[k][kColumns]
// Panels are filled up with zeros; what they produce is never stored.
#if defined(STEMFABRIC_GEMM_KERNEL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef STEMFABRIC_GEMM_KERNEL_INL_H_
#undef STEMFABRIC_GEMM_KERNEL_INL_H_
#else
#define STEMFABRIC_GEMM_KERNEL_INL_H_
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cstring>

#include "kernels/activation/activation-inl.h"
#include "kernels/linear/gemm.h"
#include "kernels/linear/gemm_tiles.h"

HWY_BEFORE_NAMESPACE();
namespace stemfabric {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Floats = hn::ScalableTag<float>;

// The tile of C that lives in registers: kRows x 2 vectors, plus two vectors of B and one of A.
// 32 registers (AVX-512) hold 12 x 2 + 3, the 16 of AVX2 6 x 2 + 3.
constexpr int64_t kLanes = hn::MaxLanes(Floats());
constexpr int64_t kRows = kLanes >= 16 ? 12 : 6;
constexpr int64_t kColumns = 2 * kLanes;

// dst[k][i] = src[i][k] for i < 4 (rows of src `stride` apart), for all k < depth.
HWY_INLINE void transpose_4_rows(const float* src, int64_t stride, int64_t depth, int64_t width,
                                 float* dst) {
  int64_t k = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::FixedTag<float, 4> d;
  for (; k + 4 <= depth; k += 4) {
    const auto r0 = hn::LoadU(d, src + k);
    const auto r1 = hn::LoadU(d, src + stride + k);
    const auto r2 = hn::LoadU(d, src + 2 * stride + k);
    const auto r3 = hn::LoadU(d, src + 3 * stride + k);
    const auto low01 = hn::InterleaveLower(d, r0, r1);
    const auto low23 = hn::InterleaveLower(d, r2, r3);
    const auto high01 = hn::InterleaveUpper(d, r0, r1);
    const auto high23 = hn::InterleaveUpper(d, r2, r3);
    float* out = dst + k * width;
    hn::StoreU(hn::ConcatLowerLower(d, low23, low01), d, out);
    hn::StoreU(hn::ConcatUpperUpper(d, low23, low01), d, out + width);
    hn::StoreU(hn::ConcatLowerLower(d, high23, high01), d, out + 2 * width);
    hn::StoreU(hn::ConcatUpperUpper(d, high23, high01), d, out + 3 * width);
  }
#endif
  for (; k < depth; ++k) {
    for (int64_t i = 0; i < 4; ++i) {
      dst[k * width + i] = src[i * stride + k];
    }
  }
}

// One panel of kWidth lines (rows of A or columns of B), of which `lines` exist. Lines are
// contiguous in memory and `stride` apart: the panel is their transpose.
template <int64_t kWidth>
HWY_INLINE void pack_lines(const float* src, int64_t stride, int64_t lines, int64_t depth,
                           float* dst) {
  int64_t i = 0;
  for (; i + 4 <= lines; i += 4) {
    transpose_4_rows(src + i * stride, stride, depth, kWidth, dst + i);
  }
  for (; i < kWidth; ++i) {
    for (int64_t k = 0; k < depth; ++k) {
      dst[k * kWidth + i] = i < lines ? src[i * stride + k] : 0.0f;
    }
  }
}

// Panels [0, panels) of kWidth lines each; the last one may have fewer of the `lines`. In memory,
// the lines lie side by side and consecutive k are `stride` apart.
template <int64_t kWidth>
HWY_INLINE void pack_side_by_side(const float* src, int64_t stride, int64_t lines, int64_t depth,
                                  float* dst) {
  const int64_t whole = lines / kWidth;
  const int64_t rest = lines % kWidth;
  for (int64_t k = 0; k < depth; ++k) {
    const float* from = src + k * stride;
    float* to = dst + k * kWidth;
    for (int64_t panel = 0; panel < whole; ++panel) {
      std::memcpy(to, from, kWidth * sizeof(float));
      from += kWidth;
      to += depth * kWidth;
    }
    if (rest != 0) {
      for (int64_t i = 0; i < kWidth; ++i) {
        to[i] = i < rest ? from[i] : 0.0f;
      }
    }
  }
}

// Lines [first, first+lines) and k in [k0, k0+depth) of an operand, as panels.
template <int64_t kWidth>
HWY_INLINE void pack(const GemmOperand& operand, bool lines_contiguous, int64_t first,
                     int64_t lines, int64_t k0, int64_t depth, float* dst) {
  if (lines_contiguous) {
    for (int64_t i = 0; i < lines; i += kWidth) {
      pack_lines<kWidth>(operand.data + (first + i) * operand.stride + k0, operand.stride,
                         std::min(kWidth, lines - i), depth, dst + i * depth);
    }
  } else {
    pack_side_by_side<kWidth>(operand.data + k0 * operand.stride + first, operand.stride, lines,
                              depth, dst);
  }
}

// acc[r][:] = Σ_k a[k][r] · b[k][:] for r < kUsed. a has kRows columns, b and acc have kColumns.
template <int kUsed>
HWY_NOINLINE void micro_kernel(int64_t depth, const float* HWY_RESTRICT a,
                               const float* HWY_RESTRICT b, float* HWY_RESTRICT acc) {
  const Floats d;
  hn::Vec<Floats> sum[kUsed][2];
#pragma GCC unroll 12
  for (int r = 0; r < kUsed; ++r) {
    sum[r][0] = hn::Zero(d);
    sum[r][1] = hn::Zero(d);
  }
  for (int64_t k = 0; k < depth; ++k) {
    const auto b0 = hn::Load(d, b);
    const auto b1 = hn::Load(d, b + kLanes);
#pragma GCC unroll 12
    for (int r = 0; r < kUsed; ++r) {
      const auto x = hn::Set(d, a[r]);
      sum[r][0] = hn::MulAdd(x, b0, sum[r][0]);
      sum[r][1] = hn::MulAdd(x, b1, sum[r][1]);
    }
    a += kRows;
    b += kColumns;
  }
#pragma GCC unroll 12
  for (int r = 0; r < kUsed; ++r) {
    hn::Store(sum[r][0], d, acc + r * kColumns);
    hn::Store(sum[r][1], d, acc + r * kColumns + kLanes);
  }
}

HWY_INLINE void multiply_panels(int64_t rows, int64_t depth, const float* a, const float* b,
                                float* acc) {
  if (rows > 2 * kRows / 3) {
    micro_kernel<kRows>(depth, a, b, acc);
  } else if (rows > kRows / 3) {
    micro_kernel<2 * kRows / 3>(depth, a, b, acc);
  } else {
    micro_kernel<kRows / 3>(depth, a, b, acc);
  }
}

// What happens to a finished tile: see the epilogues in gemm.h.
HWY_INLINE hn::Vec<Floats> finish(const GemmEpilogue& e, int64_t row, int64_t column, int64_t n,
                                  hn::Vec<Floats> v) {
  const Floats d;
  if (e.bias != nullptr) {
    v = hn::Add(v, load_first(d, e.bias + column, n));
  }
  if (e.row_bias != nullptr) {
    const float* from = e.row_bias + (row % e.row_bias_period) * e.row_bias_stride + column;
    v = hn::Add(v, load_first(d, from, n));
  }
  if (e.pre_activation != nullptr) {
    store_first(d, v, e.pre_activation + row * e.pre_activation_stride + column, n);
  }
  v = activate(d, e.activation, e.quantum, v);
  if (e.gate != Activation::kNone) {
    const auto saved = load_first(d, e.saved + row * e.saved_stride + column, n);
    v = activation_gradient(d, e.gate, e.quantum, saved, v);
  }
  return v;
}

// Starts to fetch what finish() will read of `saved`: unlike C, nothing else has touched it lately.
HWY_INLINE void prefetch_saved(const GemmEpilogue& e, int64_t row0, int64_t rows, int64_t column) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = e.saved + (row0 + r) * e.saved_stride + column;
    hwy::Prefetch(row);
    hwy::Prefetch(row + kLanes);
  }
}

// Writes the tile at (row0, column0). add: C holds the sum of the earlier blocks of k.
HWY_INLINE void store_tile(const GemmArgs& g, const float* acc, int64_t row0, int64_t rows,
                           int64_t column0, int64_t columns, bool add, bool last) {
  const Floats d;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t j = 0; j < columns; j += kLanes) {
      const int64_t row = row0 + r;
      const int64_t column = column0 + j;
      const int64_t n = columns - j;
      float* c = g.c + row * g.c_stride + column;
      auto v = hn::Load(d, acc + r * kColumns + j);
      if (add) {
        v = hn::Add(v, load_first(d, c, n));
      }
      if (last) {
        v = finish(g.epilogue, row, column, n, v);
      }
      store_first(d, v, c, n);
    }
  }
}

// Adds the column sums of one packed panel of B: four chains over k, joined in a fixed order.
HWY_INLINE void add_column_sums(const float* panel, int64_t depth, int64_t columns, float* out) {
  const Floats d;
  for (int64_t j = 0; j < columns; j += kLanes) {
    hn::Vec<Floats> sum[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
    int64_t k = 0;
    for (; k + 4 <= depth; k += 4) {
      for (int i = 0; i < 4; ++i) {
        sum[i] = hn::Add(sum[i], hn::Load(d, panel + (k + i) * kColumns + j));
      }
    }
    for (; k < depth; ++k) {
      sum[0] = hn::Add(sum[0], hn::Load(d, panel + k * kColumns + j));
    }
    const auto total = hn::Add(hn::Add(sum[0], sum[1]), hn::Add(sum[2], sum[3]));
    store_first(d, hn::Add(load_first(d, out + j, columns - j), total), out + j, columns - j);
  }
}

// The entry points that gemm_cpu.cpp dispatches to.
void gemm_tile_shape(int64_t* rows, int64_t* columns) {
  *rows = kRows;
  *columns = kColumns;
}

void gemm_pack_b(const GemmArgs& g, const GemmBlock& block, int64_t panel0, int64_t panel1) {
  const int64_t column0 = panel0 * kColumns;
  const int64_t columns = std::min(g.n, panel1 * kColumns) - column0;
  const int64_t padded_n = (g.n + kColumns - 1) / kColumns * kColumns;
  for (int64_t k = block.k0; k < block.k1; k += kGemmBlockK) {
    const int64_t depth = std::min(kGemmBlockK, block.k1 - k);
    float* dst = block.packed_b + (k - block.k0) * padded_n + column0 * depth;
    pack<kColumns>(g.b, g.b.transposed, column0, columns, k, depth, dst);
    if (g.b_column_sum != nullptr) {
      for (int64_t j = 0; j < columns; j += kColumns) {
        add_column_sums(dst + j * depth, depth, std::min(kColumns, columns - j),
                        g.b_column_sum + column0 + j);
      }
    }
  }
}

void gemm_multiply(const GemmArgs& g, const GemmBlock& block, const GemmTile& tile,
                   float* packed_a) {
  const int64_t row0 = tile.row_panel0 * kRows;
  const int64_t rows = std::min(g.m, tile.row_panel1 * kRows) - row0;
  const int64_t column0 = tile.column_panel0 * kColumns;
  const int64_t column1 = std::min(g.n, tile.column_panel1 * kColumns);
  const int64_t padded_n = (g.n + kColumns - 1) / kColumns * kColumns;
  HWY_ALIGN float acc[kRows * kColumns];
  int64_t k = block.k0;
  do {  // once even if k1 = k0 = 0
    const int64_t depth = std::min(kGemmBlockK, block.k1 - k);
    const bool last = k + depth == g.k;
    const bool add = k > 0 || g.accumulate;
    const float* packed_b = block.packed_b + (k - block.k0) * padded_n;
    pack<kRows>(g.a, !g.a.transposed, row0, rows, k, depth, packed_a);
    for (int64_t j = column0; j < column1; j += kColumns) {
      for (int64_t i = 0; i < rows; i += kRows) {
        const int64_t used = std::min(kRows, rows - i);
        if (last && g.epilogue.gate != Activation::kNone) {
          prefetch_saved(g.epilogue, row0 + i, used, j);
        }
        multiply_panels(used, depth, packed_a + i * depth, packed_b + j * depth, acc);
        store_tile(g, acc, row0 + i, used, j, std::min(kColumns, column1 - j), add, last);
      }
    }
    k += depth;
  } while (k < block.k1);
}

}  // namespace HWY_NAMESPACE
}  // namespace stemfabric
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
