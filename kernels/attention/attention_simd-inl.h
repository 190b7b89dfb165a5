// Building blocks of the CPU implementation, compiled once per instruction set (Highway):
// packing, small blocked matrix products, exp, dropout bits.

#if defined(STEMFABRIC_ATTENTION_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef STEMFABRIC_ATTENTION_SIMD_INL_H_
#undef STEMFABRIC_ATTENTION_SIMD_INL_H_
#else
#define STEMFABRIC_ATTENTION_SIMD_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstring>

#include "kernels/attention/attention_cpu.h"
#include "kernels/attention/attention_math.h"

HWY_BEFORE_NAMESPACE();
namespace stemfabric::attention_cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::ScalableTag<float>;
using FloatVec = hn::Vec<FloatTag>;
inline constexpr int64_t kLanes = HWY_LANES(float);
// A register block is kBlockRows x 2 vectors: 16 accumulators of 32 registers with AVX-512, 8 of 16
// otherwise, enough independent sums to hide the latency of a fused multiply-add.
inline constexpr int kBlockRows = kLanes >= 16 ? 8 : 4;
inline constexpr int64_t kBlockColumns = 2 * kLanes;
// Transposed operands are stored in panels of this many columns, and keys are padded to it: whole
// register blocks whether keys are columns or rows.
inline constexpr int64_t kPanel = std::max<int64_t>(kBlockColumns, kBlockRows);
static_assert(kPanel % kBlockColumns == 0 && kPanel % kBlockRows == 0);
// Keys that are worked on at once: the weights of a row block and this many keys stay in the L1
// cache.
inline constexpr int64_t kTile = 64;
static_assert(kTile % kPanel == 0);

// ---------------------------------------------------------------- products

// C (+)= A B for kBlockRows x kVectors vectors. A(r, p) is a[r * lda + p], or a[p * lda + r] if
// kTransposedA. The sum over p is formed in registers and added once: blocked summation.
template <int kVectors, bool kTransposedA, bool kAccumulate>
HWY_INLINE void register_block(int64_t depth, const float* HWY_RESTRICT a, int64_t lda,
                               const float* HWY_RESTRICT b, int64_t ldb, float* HWY_RESTRICT c,
                               int64_t ldc) {
  const FloatTag d;
  FloatVec sum[kBlockRows][kVectors];
  for (int r = 0; r < kBlockRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = hn::Zero(d);
    }
  }
  for (int64_t p = 0; p < depth; ++p) {
    FloatVec column[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      column[v] = hn::Load(d, b + p * ldb + v * kLanes);
    }
    for (int r = 0; r < kBlockRows; ++r) {
      const FloatVec weight = hn::Set(d, kTransposedA ? a[p * lda + r] : a[r * lda + p]);
      for (int v = 0; v < kVectors; ++v) {
        sum[r][v] = hn::MulAdd(weight, column[v], sum[r][v]);
      }
    }
  }
  for (int r = 0; r < kBlockRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      float* out = c + r * ldc + v * kLanes;
      hn::Store(kAccumulate ? hn::Add(hn::Load(d, out), sum[r][v]) : sum[r][v], d, out);
    }
  }
}

// C[rows, columns] (+)= A[rows, depth] B[depth, columns]; rows a multiple of kBlockRows, columns of
// kLanes, B and C aligned to vectors.
template <bool kTransposedA, bool kAccumulate>
void product(int64_t rows, int64_t columns, int64_t depth, const float* a, int64_t lda,
             const float* b, int64_t ldb, float* c, int64_t ldc) {
  const int64_t row_step = kTransposedA ? 1 : lda;
  int64_t column = 0;
  for (; column + kBlockColumns <= columns; column += kBlockColumns) {
    for (int64_t r = 0; r < rows; r += kBlockRows) {
      register_block<2, kTransposedA, kAccumulate>(depth, a + r * row_step, lda, b + column, ldb,
                                                   c + r * ldc + column, ldc);
    }
  }
  if (column < columns) {
    for (int64_t r = 0; r < rows; r += kBlockRows) {
      register_block<1, kTransposedA, kAccumulate>(depth, a + r * row_step, lda, b + column, ldb,
                                                   c + r * ldc + column, ldc);
    }
  }
}

// ---------------------------------------------------------------- packing

// Rows index[0 … n) of a head as [padded][ld], times `scale`, zeros elsewhere. A null index means
// rows 0 … n.
inline void pack_rows(const float* head, int64_t stride, const int32_t* index, int64_t n,
                      int64_t padded, int64_t dim, int64_t ld, float scale, float* out) {
  for (int64_t j = 0; j < padded; ++j) {
    float* to = out + j * ld;
    if (j >= n) {
      std::fill_n(to, ld, 0.0f);
      continue;
    }
    const float* from = head + (index == nullptr ? j : index[j]) * stride;
    for (int64_t e = 0; e < dim; ++e) {
      to[e] = from[e] * scale;
    }
    std::fill(to + dim, to + ld, 0.0f);
  }
}

// Four rows of `dim` elements become four neighbouring columns of a panel.
inline void transpose_four(const float* const (&row)[4], int64_t dim, float* panel) {
  int64_t e = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::FixedTag<float, 4> d;
  for (; e + 4 <= dim; e += 4) {
    const auto r0 = hn::LoadU(d, row[0] + e);
    const auto r1 = hn::LoadU(d, row[1] + e);
    const auto r2 = hn::LoadU(d, row[2] + e);
    const auto r3 = hn::LoadU(d, row[3] + e);
    const auto low01 = hn::InterleaveLower(d, r0, r1);
    const auto low23 = hn::InterleaveLower(d, r2, r3);
    const auto high01 = hn::InterleaveUpper(d, r0, r1);
    const auto high23 = hn::InterleaveUpper(d, r2, r3);
    float* to = panel + e * kPanel;
    hn::StoreU(hn::ConcatLowerLower(d, low23, low01), d, to);
    hn::StoreU(hn::ConcatUpperUpper(d, low23, low01), d, to + kPanel);
    hn::StoreU(hn::ConcatLowerLower(d, high23, high01), d, to + 2 * kPanel);
    hn::StoreU(hn::ConcatUpperUpper(d, high23, high01), d, to + 3 * kPanel);
  }
#endif
  for (; e < dim; ++e) {
    for (int j = 0; j < 4; ++j) {
      panel[e * kPanel + j] = row[j][e];
    }
  }
}

// Rows index[0 … n) of a head, transposed, in panels: out[panel][dim][kPanel], zeros beyond n.
inline void pack_transposed(const float* head, int64_t stride, const int32_t* index, int64_t n,
                            int64_t padded, int64_t dim, float* out) {
  for (int64_t j0 = 0; j0 < padded; j0 += kPanel) {
    float* panel = out + j0 * dim;
    const int64_t filled = std::clamp<int64_t>(n - j0, 0, kPanel);
    int64_t j = 0;
    for (; j + 4 <= filled; j += 4) {
      const int32_t* i = index + j0 + j;
      transpose_four(
          {head + i[0] * stride, head + i[1] * stride, head + i[2] * stride, head + i[3] * stride},
          dim, panel + j);
    }
    for (; j < kPanel; ++j) {
      const float* from = j < filled ? head + index[j0 + j] * stride : nullptr;
      for (int64_t e = 0; e < dim; ++e) {
        panel[e * kPanel + j] = from == nullptr ? 0.0f : from[e];
      }
    }
  }
}

// scores[rows, width] = Q Kᵀ for keys that start at a panel boundary.
inline void scores_of(int64_t rows, int64_t width, int64_t dim, const float* q, int64_t ldq,
                      const float* transposed_keys, float* scores, int64_t ld) {
  for (int64_t j = 0; j < width; j += kPanel) {
    product<false, false>(rows, kPanel, dim, q, ldq, transposed_keys + j * dim, kPanel, scores + j,
                          ld);
  }
}

// ---------------------------------------------------------------- element functions

// exp(scale · x) for x <= 0, to about one unit in the last place; 0 below 2^-126. NaN stays NaN.
class ScaledExp {
 public:
  explicit ScaledExp(float scale) {
    const double kappa = static_cast<double>(scale) * 1.4426950408889634;
    high_ = static_cast<float>(kappa);
    low_ = static_cast<float>(kappa - static_cast<double>(high_));
    smallest_ = -126.99f / high_;
  }
  HWY_INLINE FloatVec operator()(FloatVec x) const {
    const FloatTag d;
    const hn::RebindToSigned<FloatTag> di;
    x = hn::Max(hn::Set(d, smallest_), x);
    const FloatVec high = hn::Set(d, high_);
    // t + rest = x · log2(e) · scale, with the rounding of t in rest.
    const FloatVec t = hn::Mul(x, high);
    const FloatVec rest = hn::MulAdd(x, hn::Set(d, low_), hn::MulSub(x, high, t));
    // Adding 1.5 · 2^23 rounds to an integer; 127 on top leaves the exponent's bits in the low
    // byte.
    const FloatVec magic = hn::Set(d, 12582912.0f + 127.0f);
    const FloatVec shifted = hn::Add(t, magic);
    const FloatVec f = hn::Add(hn::Sub(t, hn::Sub(shifted, magic)), rest);
    const FloatVec power = hn::BitCast(d, hn::ShiftLeft<23>(hn::BitCast(di, shifted)));
    FloatVec p = hn::Set(d, kExp2[kExp2Degree]);
    for (int r = kExp2Degree - 1; r >= 0; --r) {
      p = hn::MulAdd(p, f, hn::Set(d, kExp2[r]));
    }
    return hn::Mul(p, power);
  }

 private:
  float high_, low_, smallest_;
};

// p(a) = Σ coefficients[r] a^(r+1) and its derivative, by one Horner scheme.
struct ValueAndSlope {
  FloatVec value, slope;
};
HWY_INLINE ValueAndSlope evaluate(const float (&coefficients)[kAttentionDegree], FloatVec a) {
  const FloatTag d;
  FloatVec p = hn::Set(d, coefficients[kAttentionDegree - 1]);
  FloatVec slope = p;
  for (int r = kAttentionDegree - 2; r >= 0; --r) {
    p = hn::MulAdd(p, a, hn::Set(d, coefficients[r]));
    slope = hn::MulAdd(slope, a, p);
  }
  return {hn::Mul(p, a), slope};
}
HWY_INLINE FloatVec evaluate_value(const float (&coefficients)[kAttentionDegree], FloatVec a) {
  const FloatTag d;
  FloatVec p = hn::Set(d, coefficients[kAttentionDegree - 1]);
  for (int r = kAttentionDegree - 2; r >= 0; --r) {
    p = hn::MulAdd(p, a, hn::Set(d, coefficients[r]));
  }
  return hn::Mul(p, a);
}

// ---------------------------------------------------------------- dropout

// The keep bits of one head, made where they are needed and never stored; kernels/common/philox.h
// and docs/attention.md define them.
struct KeepBits {
  PhiloxKey key{};
  uint32_t threshold = 0;  // keep if the 16-bit lane is >= threshold
  uint32_t sample = 0;     // global
  uint32_t head = 0;

  // bits[r] = the 32 keep bits of query row0 + r and original key columns 32 · group … + 31.
  // Writes up to a multiple of 8 rows. Of counter (query, 4 · group + c, sample, head), lane n is
  // column 8 ⌊n/2⌋ + 2 c + (n mod 2).
#if HWY_TARGET == HWY_SCALAR
  void group_bits(int64_t row0, int64_t rows, int64_t group, uint64_t* bits) const {
    for (int64_t r = 0; r < rows; ++r) {
      bits[r] = 0;
      for (uint32_t c = 0; c < 4; ++c) {
        const PhiloxCounter random =
            philox4x32_10({{static_cast<uint32_t>(row0 + r), 4u * static_cast<uint32_t>(group) + c,
                            sample, head}},
                          key);
        for (uint32_t n = 0; n < 8; ++n) {
          const uint64_t kept = philox_lane16(random, static_cast<int>(n)) >= threshold ? 1 : 0;
          bits[r] |= kept << (8 * (n / 2) + 2 * c + n % 2);
        }
      }
    }
  }
#else
  void group_bits(int64_t row0, int64_t rows, int64_t group, uint64_t* bits) const {
    const hn::ScalableTag<uint64_t> d;
    using Vec = hn::Vec<decltype(d)>;
    const Vec low16 = hn::Set(d, 0xFFFFu);
    const Vec below = hn::Set(d, static_cast<uint64_t>(threshold) - 1u);
    for (int64_t r = 0; r < rows; r += kLanes / 2) {
      Vec kept = hn::Zero(d);
      for (uint64_t c = 0; c < 4; ++c) {
        Vec word[4] = {hn::Iota(d, static_cast<uint64_t>(row0 + r)),
                       hn::Set(d, 4u * static_cast<uint64_t>(group) + c), hn::Set(d, sample),
                       hn::Set(d, head)};
        rounds(word);
        for (uint64_t n = 0; n < 8; ++n) {
          // below - lane is negative if the weight is kept.
          const Vec w = word[n / 2];
          const Vec lane = hn::And(n % 2 == 0 ? w : hn::ShiftRight<16>(w), low16);
          const Vec bit = hn::ShiftRight<63>(hn::Sub(below, lane));
          kept =
              hn::Or(kept, hn::ShiftLeftSame(bit, static_cast<int>(8 * (n / 2) + 2 * c + n % 2)));
        }
      }
      hn::StoreU(kept, d, bits + r);
    }
  }
#endif

  // tile[r][j] = 1 if the weight of query row0 + r and key index[j] is kept, else 0.
  void tile(int64_t row0, int64_t rows, const int32_t* index, int64_t width, float* out,
            int64_t ld) const {
    HWY_ALIGN uint64_t bits[kMaxRows + 8];
    for (int64_t j = 0; j < width;) {
      const int64_t group = index[j] / 32;
      int64_t end = j + 1;
      while (end < width && index[end] / 32 == group) {
        ++end;
      }
      group_bits(row0, rows, group, bits);
      const bool whole = end - j == 32 && j % 32 == 0;  // no key of the group is masked
      for (int64_t r = 0; r < rows; ++r) {
        float* row = out + r * ld;
        if (whole) {
          expand(static_cast<uint32_t>(bits[r]), row + j);
          continue;
        }
        for (int64_t k = j; k < end; ++k) {
          row[k] = static_cast<float>((bits[r] >> (index[k] % 32)) & 1u);
        }
      }
      j = end;
    }
  }

  static constexpr int64_t kMaxRows = 64;

 private:
  // The 32 bits as numbers 0 and 1.
  static HWY_INLINE void expand(uint32_t bits, float* out) {
    const FloatTag d;
    const hn::RebindToUnsigned<FloatTag> du;
    using Lane = hn::TFromD<decltype(du)>;
    HWY_ALIGN Lane lane_bit[kLanes];
    for (int64_t i = 0; i < kLanes; ++i) {
      lane_bit[i] = Lane{1} << i;
    }
    const auto lane = hn::Load(du, lane_bit);
    const auto one = hn::BitCast(du, hn::Set(d, 1.0f));
    for (int64_t i = 0; i < 32; i += kLanes) {
      const auto kept = hn::TestBit(hn::Set(du, bits >> i), lane);
      hn::Store(hn::BitCast(d, hn::IfThenElseZero(kept, one)), d, out + i);
    }
  }

#if HWY_TARGET != HWY_SCALAR
  // Ten Philox rounds on the low halves of 64-bit lanes; the high halves are left as garbage.
  template <typename Vec>
  HWY_INLINE void rounds(Vec (&c)[4]) const {
    const hn::DFromV<Vec> d;
    const hn::Repartition<uint32_t, decltype(d)> d32;
    const auto multiplier0 = hn::Set(d32, 0xD2511F53u);
    const auto multiplier1 = hn::Set(d32, 0xCD9E8D57u);
    uint32_t k0 = key.word[0];
    uint32_t k1 = key.word[1];
    for (int round = 0; round < 10; ++round) {
      const Vec p0 = hn::MulEven(hn::BitCast(d32, c[0]), multiplier0);
      const Vec p1 = hn::MulEven(hn::BitCast(d32, c[2]), multiplier1);
      c[0] = hn::Xor(hn::Xor(hn::ShiftRight<32>(p1), c[1]), hn::Set(d, k0));
      c[1] = p1;
      c[2] = hn::Xor(hn::Xor(hn::ShiftRight<32>(p0), c[3]), hn::Set(d, k1));
      c[3] = p0;
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
  }
#endif
};

inline KeepBits keep_bits(const DropoutConfig& config, int64_t b, int64_t h) {
  return {config.key, dropout_threshold(config.p), static_cast<uint32_t>(config.sample0 + b),
          static_cast<uint32_t>(h)};
}

}  // namespace HWY_NAMESPACE
}  // namespace stemfabric::attention_cpu
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
