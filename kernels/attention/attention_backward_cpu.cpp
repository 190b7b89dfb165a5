// Backward pass on the CPU: key blocks outside, strips of queries inside, so that dK and dV of a
// block stay in cache and are written once, and dQ of the head collects in scratch memory.
// One task is one (batch, head). See docs/attention.md.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/attention_backward_cpu.cpp"
#include <hwy/foreach_target.h>  // must come before highway.h
#include <hwy/highway.h>

#include <cmath>
#include <limits>

#include "kernels/attention/attention_cpu.h"
#include "kernels/attention/attention_simd-inl.h"
#include "kernels/common/parallel_for.h"
#include "kernels/common/widened.h"

HWY_BEFORE_NAMESPACE();
namespace stemfabric::attention_cpu {
namespace HWY_NAMESPACE {

struct BackwardSizes {
  int64_t batch, tokens, heads, dim;
  int64_t dim_padded;  // to vectors
  int64_t strip;       // queries of a strip
  int64_t block;       // keys of a block

  explicit BackwardSizes(const ConstTensorView& q)
      : batch(q.dim(0)), tokens(q.dim(1)), heads(q.dim(2)), dim(q.dim(3)) {
    dim_padded = round_up(dim, kLanes);
    strip = std::min<int64_t>(64, round_up(tokens, kBlockRows));
    // Five packed arrays of a block should stay in the L2 cache.
    block = std::min(std::clamp<int64_t>(16384 / dim_padded / kTile * kTile, kTile, 512),
                     round_up(tokens, kPanel));
  }
};

struct BackwardScratch {
  int32_t* index;
  float* dq;                                  // of the head
  float *keys_t, *values_t, *keys, *dk, *dv;  // of the key block
  float *q, *d_o, *c0_d_o, *common;           // of the strip; common = Σ c0 dO over all queries
  float *a, *dg, *keep;                       // of the strip and a tile of keys

  BackwardScratch(ScratchCutter& cut, const BackwardSizes& s, bool dropout) {
    index = reinterpret_cast<int32_t*>(cut.take(s.tokens));
    dq = cut.take(round_up(s.tokens, s.strip) * s.dim_padded);
    keys_t = cut.take(s.block * s.dim);
    values_t = cut.take(s.block * s.dim);
    keys = cut.take(s.block * s.dim_padded);
    dk = cut.take(s.block * s.dim_padded);
    dv = cut.take(s.block * s.dim_padded);
    q = cut.take(s.strip * s.dim_padded);
    d_o = cut.take(s.strip * s.dim_padded);
    c0_d_o = cut.take(dropout ? s.strip * s.dim_padded : 0);
    common = cut.take(s.dim_padded);
    a = cut.take(s.strip * kTile);
    dg = cut.take(s.strip * kTile);
    keep = cut.take(dropout ? s.strip * kTile : 0);
  }
};

// What an element needs of its row of queries.
struct BackwardRow {
  float m, inverse_l;
  float c0;
  float c[kAttentionDegree];  // divided by g if normalized
  float d0;                   // dO · O if normalized, else 0
  float d1;                   // dO · U
  float w_d2;                 // w dO · O2
};

template <bool kPolynomial, bool kDropout>
class BackwardTask {
 public:
  BackwardTask(const AttentionBackwardArgs& args, const BackwardSizes& sizes,
               const AttentionCoefficients& coefficients, const BackwardScratch& scratch)
      : args_(args),
        s_(sizes),
        coef_(coefficients),
        x_(scratch),
        scale_(1.0f / std::sqrt(static_cast<float>(sizes.dim))),
        exp_(scale_) {
    for (int r = 0; r < kAttentionDegree; ++r) {
      slope_of_exp_[r] = static_cast<float>(r + 1) * coef_.x[r];
    }
  }

  void run(int64_t task) {
    b_ = task / s_.heads;
    h_ = task % s_.heads;
    keep_ = keep_bits(args_.dropout, b_, h_);
    n_ = collect_keys(key_mask_of(args_.key_mask), b_, s_.tokens, x_.index);
    std::fill_n(x_.dq, round_up(s_.tokens, s_.strip) * s_.dim_padded, 0.0f);
    zero_masked_keys();
    for (int64_t j = 0; j < n_; j += s_.block) {
      key_block(j, std::min(s_.block, n_ - j));
    }
    const auto dq = rows_of(args_.dq);
    for (int64_t i = 0; i < s_.tokens; ++i) {
      write_scaled(x_.dq + i * s_.dim_padded, scale_, dq, i);
    }
  }

 private:
  // The gradients of keys that are not in the index.
  void zero_masked_keys() const {
    const auto dk = rows_of(args_.dk);
    const auto dv = rows_of(args_.dv);
    int64_t next = 0;
    for (int64_t j = 0; j < s_.tokens; ++j) {
      if (next < n_ && x_.index[next] == j) {
        ++next;
        continue;
      }
      std::fill_n(dk.head(b_, h_) + j * dk.token_stride, s_.dim, 0.0f);
      std::fill_n(dv.head(b_, h_) + j * dv.token_stride, s_.dim, 0.0f);
    }
  }

  void key_block(int64_t first_key, int64_t keys) {
    const int64_t padded = round_up(keys, kPanel);
    const int32_t* index = x_.index + first_key;
    const auto k = rows_of(args_.k);
    const auto v = rows_of(args_.v);
    pack_transposed(k.head(b_, h_), k.token_stride, index, keys, padded, s_.dim, x_.keys_t);
    pack_transposed(v.head(b_, h_), v.token_stride, index, keys, padded, s_.dim, x_.values_t);
    pack_rows(k.head(b_, h_), k.token_stride, index, keys, padded, s_.dim, s_.dim_padded, 1.0f,
              x_.keys);
    std::fill_n(x_.dk, padded * s_.dim_padded, 0.0f);
    std::fill_n(x_.dv, padded * s_.dim_padded, 0.0f);
    std::fill_n(x_.common, s_.dim_padded, 0.0f);
    for (int64_t i = 0; i < s_.tokens; i += s_.strip) {
      const int64_t rows = std::min(s_.strip, s_.tokens - i);
      load_strip(i, rows);
      for (int64_t j = 0; j < padded; j += kTile) {
        tile(i, round_up(rows, kBlockRows), index, keys, j, std::min(kTile, padded - j));
      }
    }
    const auto dk = rows_of(args_.dk);
    const auto dv = rows_of(args_.dv);
    for (int64_t j = 0; j < keys; ++j) {
      write_scaled(x_.dk + j * s_.dim_padded, scale_, dk, index[j]);
      float* row = x_.dv + j * s_.dim_padded;
      for (int64_t e = 0; e < s_.dim; ++e) {
        row[e] += x_.common[e];
      }
      write_scaled(row, 1.0f, dv, index[j]);
    }
  }

  // Packs Q and dO of the strip and forms what each row contributes.
  void load_strip(int64_t first, int64_t rows) {
    const int64_t padded = round_up(rows, kBlockRows);
    const auto q = rows_of(args_.q);
    const auto d_o = rows_of(args_.d_o);
    const float scale = kDropout ? dropout_scale(args_.dropout.p) : 1.0f;
    pack_rows(q.head(b_, h_) + first * q.token_stride, q.token_stride, nullptr, rows, padded,
              s_.dim, s_.dim_padded, 1.0f, x_.q);
    pack_rows(d_o.head(b_, h_) + first * d_o.token_stride, d_o.token_stride, nullptr, rows, padded,
              s_.dim, s_.dim_padded, scale, x_.d_o);
    for (int64_t r = 0; r < padded; ++r) {
      row_[r] = r < rows ? load_row(first + r) : BackwardRow{};
    }
    if constexpr (kPolynomial) {
      add_common(padded);
    }
  }

  BackwardRow load_row(int64_t i) const {
    const float* saved = stat_rows_of(args_.stats).row(b_, h_, i);
    const AttentionRowStats stats{saved[0], saved[1], saved[2], saved[3]};
    const float* d_o = row_of(args_.d_o, i);
    BackwardRow row{};
    row.m = stats.m;
    row.inverse_l = 1.0f / stats.l;
    row.d1 = dot(d_o, row_of(args_.u, i));
    if constexpr (kPolynomial) {
      const float inverse_g = 1.0f / stats.g;
      row.w_d2 = stats.w * dot(d_o, row_of(args_.o2, i));
      row.d0 = coef_.normalized ? dot(d_o, row_of(args_.o, i)) : 0.0f;
      row.c0 = (coef_.b + stats.w) * inverse_g;
      for (int r = 0; r < kAttentionDegree; ++r) {
        row.c[r] = (coef_.h[r] + stats.w * coef_.x[r]) * inverse_g;
      }
    }
    return row;
  }

  // The part of dV that comes from the constant c0 of every row: the same for all keys, unless
  // dropout takes some of it away (then a product with the keep bits, in tile()).
  void add_common(int64_t rows) {
    const FloatTag d;
    for (int64_t e = 0; e < s_.dim_padded; e += kLanes) {
      FloatVec sum = hn::Zero(d);
      for (int64_t r = 0; r < rows; ++r) {
        const FloatVec part =
            hn::Mul(hn::Set(d, row_[r].c0), hn::Load(d, x_.d_o + r * s_.dim_padded + e));
        sum = hn::Add(sum, part);
        if (kDropout) {
          hn::Store(part, d, x_.c0_d_o + r * s_.dim_padded + e);
        }
      }
      if (!kDropout) {
        hn::Store(hn::Add(sum, hn::Load(d, x_.common + e)), d, x_.common + e);
      }
    }
  }

  // One strip of queries (from query `first`) and the keys [j, j + width) of the block.
  void tile(int64_t first, int64_t rows, const int32_t* index, int64_t keys, int64_t j,
            int64_t width) {
    const int64_t ld = s_.dim_padded;
    const int64_t valid = std::min(width, keys - j);
    if constexpr (kDropout) {
      std::fill_n(x_.keep, rows * kTile, 0.0f);
      keep_.tile(first, rows, index + j, valid, x_.keep, kTile);
    }
    scores_of(rows, width, s_.dim, x_.q, ld, x_.keys_t + j * s_.dim, x_.a, kTile);
    scores_of(rows, width, s_.dim, x_.d_o, ld, x_.values_t + j * s_.dim, x_.dg, kTile);
    for (int64_t r = 0; r < rows; ++r) {
      float* a = x_.a + r * kTile;
      std::fill(a + valid, a + width, -std::numeric_limits<float>::infinity());
      row_gradient(row_[r], x_.keep + r * kTile, a, x_.dg + r * kTile, width);
    }
    product<true, true>(width, ld, rows, x_.a, kTile, x_.d_o, ld, x_.dv + j * ld, ld);
    if constexpr (kPolynomial && kDropout) {
      product<true, true>(width, ld, rows, x_.keep, kTile, x_.c0_d_o, ld, x_.dv + j * ld, ld);
    }
    product<true, true>(width, ld, rows, x_.dg, kTile, x_.q, ld, x_.dk + j * ld, ld);
    product<false, true>(rows, ld, width, x_.dg, kTile, x_.keys + j * ld, ld, x_.dq + first * ld,
                         ld);
  }

  // Scores -> R(A), dG -> dS, in place.
  void row_gradient(const BackwardRow& row, const float* keep, float* scores, float* dg,
                    int64_t width) const {
    const FloatTag d;
    const FloatVec m = hn::Set(d, row.m);
    const FloatVec inverse_l = hn::Set(d, row.inverse_l);
    for (int64_t j = 0; j < width; j += kLanes) {
      const FloatVec a = hn::Mul(exp_(hn::Sub(hn::Load(d, scores + j), m)), inverse_l);
      FloatVec k = hn::Zero(d);
      FloatVec g = hn::Load(d, dg + j);
      if constexpr (kDropout) {
        k = hn::Load(d, keep + j);
        g = hn::Mul(k, g);
      }
      FloatVec weight = a;
      FloatVec ds;
      if constexpr (kPolynomial) {
        const ValueAndSlope r = evaluate(row.c, a);
        weight = r.value;
        FloatVec e = hn::Set(d, slope_of_exp_[kAttentionDegree - 1]);
        for (int i = kAttentionDegree - 2; i >= 0; --i) {
          e = hn::MulAdd(e, a, hn::Set(d, slope_of_exp_[i]));
        }
        const FloatVec row_term = hn::MulAdd(hn::Set(d, row.w_d2), e, hn::Set(d, row.d1));
        ds = hn::MulSub(r.slope, hn::Sub(g, hn::Set(d, row.d0)), row_term);
      } else {
        ds = hn::Sub(g, hn::Set(d, row.d1));
      }
      hn::Store(kDropout ? hn::Mul(k, weight) : weight, d, scores + j);
      hn::Store(hn::Mul(a, ds), d, dg + j);
    }
  }

  float dot(const float* x, const float* y) const {
    const FloatTag d;
    FloatVec sum = hn::Zero(d);
    int64_t e = 0;
    for (; e + kLanes <= s_.dim; e += kLanes) {
      sum = hn::MulAdd(hn::LoadU(d, x + e), hn::LoadU(d, y + e), sum);
    }
    float total = hn::GetLane(hn::SumOfLanes(d, sum));
    for (; e < s_.dim; ++e) {
      total += x[e] * y[e];
    }
    return total;
  }

  const float* row_of(const ConstTensorView& view, int64_t i) const {
    const auto rows = rows_of(view);
    return rows.head(b_, h_) + i * rows.token_stride;
  }

  void write_scaled(const float* from, float scale, const Rows<float>& rows, int64_t i) const {
    float* to = rows.head(b_, h_) + i * rows.token_stride;
    for (int64_t e = 0; e < s_.dim; ++e) {
      to[e] = scale * from[e];
    }
  }

  const AttentionBackwardArgs& args_;
  const BackwardSizes& s_;
  const AttentionCoefficients& coef_;
  const BackwardScratch& x_;
  float scale_;
  ScaledExp exp_;
  float slope_of_exp_[kAttentionDegree];  // exp(a) ≈ Σ slope_of_exp_[r] a^r
  KeepBits keep_;
  int64_t b_ = 0, h_ = 0;
  int64_t n_ = 0;             // keys that may be attended to
  BackwardRow row_[64] = {};  // of the current strip
};

template <bool kPolynomial, bool kDropout>
void backward_kind(const ExecutionContext& ctx, const AttentionBackwardArgs& args) {
  const BackwardSizes sizes(args.q);
  const AttentionCoefficients coefficients = attention_coefficients(args.config);
  const int64_t tasks = sizes.batch * sizes.heads;
  ScratchCutter counter(nullptr);
  BackwardScratch(counter, sizes, kDropout);
  WorkspaceScope scope(ctx.workspace());
  float* memory = scope.take<float>(counter.used() * scratch_slots(ctx, tasks));
  parallel_tasks(ctx, tasks, [&](int64_t task, int64_t slot) {
    ScratchCutter cut(memory + slot * counter.used());
    const BackwardScratch scratch(cut, sizes, kDropout);
    BackwardTask<kPolynomial, kDropout>(args, sizes, coefficients, scratch).run(task);
  });
}

void backward_target(const ExecutionContext& ctx, const AttentionBackwardArgs& args) {
  const bool polynomial = args.config.activation != AttentionActivation::kSoftmax;
  const bool dropout = dropout_threshold(args.dropout.p) != 0;
  auto* const run = polynomial
                        ? (dropout ? &backward_kind<true, true> : &backward_kind<true, false>)
                        : (dropout ? &backward_kind<false, true> : &backward_kind<false, false>);
  run(ctx, args);
}

}  // namespace HWY_NAMESPACE
}  // namespace stemfabric::attention_cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stemfabric {

namespace attention_cpu {
namespace {
HWY_EXPORT(backward_target);
void backward(const ExecutionContext& ctx, const AttentionBackwardArgs& args) {
  HWY_DYNAMIC_DISPATCH(backward_target)(ctx, args);
}
}  // namespace
}  // namespace attention_cpu

void cpu::attention_backward(const ExecutionContext& ctx, const AttentionBackwardArgs& args) {
  if (args.q.elements() == 0) {
    return;
  }
  if (args.q.dtype() == DType::kBF16) {
    return in_float32(ctx, args, attention_backward, [](Widened& f32, auto& a) {
      f32.input(a.q);
      f32.input(a.k);
      f32.input(a.v);
      f32.input(a.o);
      f32.input(a.o2);
      f32.input(a.d_o);
      f32.output(a.dq);
      f32.output(a.dk);
      f32.output(a.dv);
    });
  }
  attention_cpu::backward(ctx, args);
}

}  // namespace stemfabric
#endif
