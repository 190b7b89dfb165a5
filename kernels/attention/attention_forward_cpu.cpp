// Forward pass on the CPU, strip-resident: the scores of a strip of queries against all keys of the
// head stay in cache from the product Q Kᵀ to the last use; nothing of size T x T exists.
// One task is a group of queries of one (batch, head). See docs/attention.md.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/attention_forward_cpu.cpp"
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

// Which sums over the keys a kind of forward forms, as rows of one stacked product with V:
//   softmax                 A
//   inference               R(A)
//   training                R(A), exp(A) − 1, ψ(A)          ψ(a) = a R'(a)
//   with dropout            and the keep bits themselves, for the constant part of G
template <bool kPolynomialT, bool kTrainingT, bool kDropoutT>
struct ForwardKind {
  static constexpr bool kPolynomial = kPolynomialT;
  static constexpr bool kTraining = kTrainingT;
  static constexpr bool kDropout = kDropoutT;
  static constexpr int kKeepSum = kPolynomial && kTraining ? 3 : 1;
  static constexpr int kSums = kKeepSum + (kPolynomial && kDropout ? 1 : 0);
};

struct ForwardSizes {
  int64_t batch, tokens, heads, dim;
  int64_t dim_padded;    // to vectors
  int64_t keys_padded;   // all tokens, to panels
  int64_t strip;         // queries of a strip
  int64_t strip_ld;      // floats from one row of scores to the next; not a multiple of 4 KiB
  int64_t task_queries;  // queries of a task
  int64_t tasks_per_head;

  ForwardSizes(const ConstTensorView& q)
      : batch(q.dim(0)), tokens(q.dim(1)), heads(q.dim(2)), dim(q.dim(3)) {
    dim_padded = round_up(dim, kLanes);
    keys_padded = round_up(tokens, kPanel);
    strip_ld = keys_padded + 16;
    // The strip of scores should stay in the L2 cache.
    strip = tokens <= 2048 ? 32 : tokens <= 4096 ? 16 : 8;
    strip = std::min(strip, round_up(tokens, kBlockRows));
    // Packing K and V costs as much as a few queries: many queries a task, but enough tasks.
    const int64_t wanted = batch * heads * tokens / 64;
    task_queries = round_up(std::clamp<int64_t>(wanted, 64, 512), strip);
    tasks_per_head = (tokens + task_queries - 1) / task_queries;
  }
};

struct ForwardScratch {
  int32_t* index;
  float *keys, *values, *value_sum, *q, *scores, *sums, *weights, *keep;

  ForwardScratch(ScratchCutter& cut, const ForwardSizes& s, int stacked, bool dropout) {
    index = reinterpret_cast<int32_t*>(cut.take(s.tokens));
    keys = cut.take(s.keys_padded * s.dim);
    values = cut.take(s.keys_padded * s.dim_padded);
    value_sum = cut.take(s.dim_padded);
    q = cut.take(s.strip * s.dim_padded);
    scores = cut.take(s.strip * s.strip_ld);
    sums = cut.take(s.strip * stacked * s.dim_padded);
    weights = cut.take(kBlockRows * stacked * kTile);
    keep = cut.take(dropout ? s.strip * kTile : 0);
  }
};

// What a row of queries needs after its scores are known.
struct ForwardRow {
  float m, l, z2, w, t;  // t = Σ A exp(A)
  float g, omega;        // normalized: row sum of G, Σ A h'(A)
  float c[kAttentionDegree];
};

template <class Kind>
class ForwardTask {
 public:
  ForwardTask(const AttentionForwardArgs& args, const ForwardSizes& sizes,
              const AttentionCoefficients& coefficients, const ForwardScratch& scratch)
      : args_(args),
        s_(sizes),
        coef_(coefficients),
        scratch_(scratch),
        exp_(1.0f / std::sqrt(static_cast<float>(sizes.dim))) {}

  void run(int64_t task) {
    const int64_t group = task % s_.tasks_per_head;
    const int64_t head = task / s_.tasks_per_head;
    b_ = head / s_.heads;
    h_ = head % s_.heads;
    keep_ = keep_bits(args_.dropout, b_, h_);
    const int64_t begin = group * s_.task_queries;
    const int64_t end = std::min(s_.tokens, begin + s_.task_queries);
    n_ = collect_keys(key_mask_of(args_.key_mask), b_, s_.tokens, scratch_.index);
    if (n_ == 0) {
      for (int64_t i = begin; i < end; ++i) {
        write_empty_row(i);
      }
      return;
    }
    n_padded_ = round_up(n_, kPanel);
    pack_keys();
    for (int64_t i = begin; i < end; i += s_.strip) {
      strip(i, std::min(s_.strip, end - i));
    }
  }

 private:
  void pack_keys() {
    const auto k = rows_of(args_.k);
    const auto v = rows_of(args_.v);
    pack_transposed(k.head(b_, h_), k.token_stride, scratch_.index, n_, n_padded_, s_.dim,
                    scratch_.keys);
    pack_rows(v.head(b_, h_), v.token_stride, scratch_.index, n_, n_padded_, s_.dim, s_.dim_padded,
              1.0f, scratch_.values);
    if (Kind::kPolynomial && !Kind::kDropout) {
      sum_values();
    }
  }

  // V̂ = Σ V over the keys, blocked like the products.
  void sum_values() {
    const FloatTag d;
    for (int64_t e = 0; e < s_.dim_padded; e += kLanes) {
      FloatVec total = hn::Zero(d);
      for (int64_t j0 = 0; j0 < n_padded_; j0 += kTile) {
        FloatVec part = hn::Zero(d);
        for (int64_t j = j0; j < std::min(j0 + kTile, n_padded_); ++j) {
          part = hn::Add(part, hn::Load(d, scratch_.values + j * s_.dim_padded + e));
        }
        total = hn::Add(total, part);
      }
      hn::Store(total, d, scratch_.value_sum + e);
    }
  }

  void strip(int64_t first, int64_t rows) {
    const int64_t padded = round_up(rows, kBlockRows);
    const auto q = rows_of(args_.q);
    pack_rows(q.head(b_, h_) + first * q.token_stride, q.token_stride, nullptr, rows, padded,
              s_.dim, s_.dim_padded, 1.0f, scratch_.q);
    for (int64_t r = 0; r < padded; r += kBlockRows) {
      scores_of(kBlockRows, n_padded_, s_.dim, scratch_.q + r * s_.dim_padded, s_.dim_padded,
                scratch_.keys, scratch_.scores + r * s_.strip_ld, s_.strip_ld);
      for (int64_t i = r; i < r + kBlockRows; ++i) {
        normalise_row(scratch_.scores + i * s_.strip_ld, row_[i]);
      }
    }
    std::fill_n(scratch_.sums, padded * Kind::kSums * s_.dim_padded, 0.0f);
    for (int64_t j = 0; j < n_padded_; j += kTile) {
      add_tile(first, padded, j, std::min(kTile, n_padded_ - j));
    }
    for (int64_t r = 0; r < rows; ++r) {
      write_row(first + r, r);
    }
  }

  // Scores -> A in place; l, z2, w, the polynomial's row coefficients and the row's other sums.
  void normalise_row(float* scores, ForwardRow& row) const {
    const FloatTag d;
    std::fill(scores + n_, scores + n_padded_, -std::numeric_limits<float>::infinity());
    FloatVec largest = hn::Load(d, scores);
    for (int64_t j = kLanes; j < n_padded_; j += kLanes) {
      largest = hn::Max(largest, hn::Load(d, scores + j));
    }
    row.m = hn::GetLane(hn::MaxOfLanes(d, largest));
    const FloatVec m = hn::Set(d, row.m);
    FloatVec l = hn::Zero(d);
    for (int64_t j = 0; j < n_padded_; j += kLanes) {
      const FloatVec e = exp_(hn::Sub(hn::Load(d, scores + j), m));
      l = hn::Add(l, e);
      hn::Store(e, d, scores + j);
    }
    row.l = hn::GetLane(hn::SumOfLanes(d, l));
    if constexpr (Kind::kPolynomial) {
      sum_inner_softmax(scores, row);
    } else {
      const FloatVec inverse = hn::Set(d, 1.0f / row.l);
      for (int64_t j = 0; j < n_padded_; j += kLanes) {
        hn::Store(hn::Mul(hn::Load(d, scores + j), inverse), d, scores + j);
      }
      row.w = 0.0f;
      row.g = 1.0f;
    }
  }

  void sum_inner_softmax(float* weights, ForwardRow& row) const {
    const FloatTag d;
    const FloatVec inverse = hn::Set(d, 1.0f / row.l);
    FloatVec z = hn::Zero(d), t = hn::Zero(d), sum_h = hn::Zero(d), omega = hn::Zero(d);
    for (int64_t j = 0; j < n_padded_; j += kLanes) {
      const FloatVec a = hn::Mul(hn::Load(d, weights + j), inverse);
      hn::Store(a, d, weights + j);
      if constexpr (Kind::kTraining) {
        const ValueAndSlope e = evaluate(coef_.x, a);
        z = hn::Add(z, e.value);
        t = hn::MulAdd(a, e.slope, t);
      } else {
        z = hn::Add(z, evaluate_value(coef_.x, a));
      }
      if (coef_.normalized) {
        const ValueAndSlope h = evaluate(coef_.h, a);
        sum_h = hn::Add(sum_h, h.value);
        omega = hn::MulAdd(a, h.slope, omega);
      }
    }
    const auto n = static_cast<float>(n_);
    row.z2 = n + hn::GetLane(hn::SumOfLanes(d, z));
    row.w = coef_.gamma / row.z2;
    row.t = hn::GetLane(hn::SumOfLanes(d, t));
    row.g =
        coef_.normalized ? n * coef_.b + hn::GetLane(hn::SumOfLanes(d, sum_h)) + coef_.gamma : 1.0f;
    row.omega = hn::GetLane(hn::SumOfLanes(d, omega));
    for (int r = 0; r < kAttentionDegree; ++r) {
      row.c[r] = coef_.h[r] + row.w * coef_.x[r];
    }
  }

  // Adds the keys [j, j + width) of the strip to its sums.
  void add_tile(int64_t first, int64_t rows, int64_t j, int64_t width) {
    if (Kind::kDropout) {
      std::fill_n(scratch_.keep, rows * kTile, 0.0f);
      keep_.tile(first, rows, scratch_.index + j, std::min(width, n_ - j), scratch_.keep, kTile);
    }
    for (int64_t r = 0; r < rows; r += kBlockRows) {
      for (int64_t i = 0; i < kBlockRows; ++i) {
        weigh_row(scratch_.scores + (r + i) * s_.strip_ld + j, row_[r + i],
                  scratch_.keep + (r + i) * kTile, scratch_.weights + i * kTile, width);
      }
      product<false, true>(Kind::kSums * kBlockRows, s_.dim_padded, width, scratch_.weights, kTile,
                           scratch_.values + j * s_.dim_padded, s_.dim_padded,
                           scratch_.sums + r * Kind::kSums * s_.dim_padded, s_.dim_padded);
    }
  }

  // The stacked weights of one row; those of sum number k lie k · kBlockRows rows further on.
  void weigh_row(const float* a_row, const ForwardRow& row, const float* keep, float* out,
                 int64_t width) const {
    constexpr int64_t kNext = kBlockRows * kTile;
    const FloatTag d;
    for (int64_t j = 0; j < width; j += kLanes) {
      const FloatVec a = hn::Load(d, a_row + j);
      const FloatVec k = Kind::kDropout ? hn::Load(d, keep + j) : hn::Zero(d);
      const auto put = [&](int sum, FloatVec weight) {
        hn::Store(Kind::kDropout ? hn::Mul(k, weight) : weight, d, out + sum * kNext + j);
      };
      if constexpr (!Kind::kPolynomial) {
        put(0, a);
      } else if constexpr (!Kind::kTraining) {
        put(0, evaluate_value(row.c, a));
      } else {
        const ValueAndSlope r = evaluate(row.c, a);
        put(0, r.value);
        put(1, evaluate_value(coef_.x, a));
        put(2, hn::Mul(a, r.slope));
      }
      if constexpr (Kind::kSums > Kind::kKeepSum) {
        hn::Store(k, d, out + Kind::kKeepSum * kNext + j);
      }
    }
  }

  // Row r of the strip is query i: O, O2, U and the statistics from the sums.
  void write_row(int64_t i, int64_t r) const {
    const ForwardRow& row = row_[r];
    const float* sums =
        scratch_.sums +
        (r / kBlockRows * kBlockRows * Kind::kSums + r % kBlockRows) * s_.dim_padded;
    const int64_t next = kBlockRows * s_.dim_padded;
    const float scale = Kind::kDropout ? dropout_scale(args_.dropout.p) : 1.0f;
    float* o = output(rows_of(args_.o), i);
    float* o2 = Kind::kTraining ? output(rows_of(args_.o2), i) : nullptr;
    float* u = Kind::kTraining ? output(rows_of(args_.u), i) : nullptr;
    for (int64_t e = 0; e < s_.dim; ++e) {
      if constexpr (!Kind::kPolynomial) {
        o[e] = scale * sums[e];
        if constexpr (Kind::kTraining) {
          o2[e] = 0.0f;  // multiplied by γ in the backward
          u[e] = o[e];
        }
      } else {
        const float constant =
            Kind::kDropout ? sums[Kind::kKeepSum * next + e] : scratch_.value_sum[e];
        const float out = scale * ((coef_.b + row.w) * constant + sums[e]) / row.g;
        o[e] = out;
        if constexpr (Kind::kTraining) {
          const float inner = scale * (constant + sums[next + e]) / row.z2;
          const float slope = scale * sums[2 * next + e] - row.w * row.t * inner;
          o2[e] = coef_.normalized ? (inner - out) / row.g : inner;
          u[e] = coef_.normalized ? (slope - row.omega * out) / row.g : slope;
        }
      }
    }
    if (Kind::kTraining) {
      write_stats(i, {row.m, row.l, row.w, row.g});
    }
  }

  void write_empty_row(int64_t i) const {
    std::fill_n(output(rows_of(args_.o), i), s_.dim, 0.0f);
    if (Kind::kTraining) {
      std::fill_n(output(rows_of(args_.o2), i), s_.dim, 0.0f);
      std::fill_n(output(rows_of(args_.u), i), s_.dim, 0.0f);
      write_stats(i, {0.0f, std::numeric_limits<float>::infinity(), 0.0f, 1.0f});
    }
  }

  void write_stats(int64_t i, const AttentionRowStats& stats) const {
    float* out = stat_rows_of(args_.stats).row(b_, h_, i);
    out[0] = stats.m;
    out[1] = stats.l;
    out[2] = stats.w;
    out[3] = stats.g;
  }

  float* output(const Rows<float>& rows, int64_t i) const {
    return rows.head(b_, h_) + i * rows.token_stride;
  }

  const AttentionForwardArgs& args_;
  const ForwardSizes& s_;
  const AttentionCoefficients& coef_;
  const ForwardScratch& scratch_;
  ScaledExp exp_;
  KeepBits keep_;
  int64_t b_ = 0, h_ = 0;
  int64_t n_ = 0, n_padded_ = 0;  // keys that may be attended to
  ForwardRow row_[32] = {};       // of the current strip
};

template <class Kind>
void forward_kind(const ExecutionContext& ctx, const AttentionForwardArgs& args) {
  const ForwardSizes sizes(args.q);
  const AttentionCoefficients coefficients = attention_coefficients(args.config);
  const int64_t tasks = sizes.batch * sizes.heads * sizes.tasks_per_head;
  ScratchCutter counter(nullptr);
  ForwardScratch(counter, sizes, Kind::kSums, Kind::kDropout);
  WorkspaceScope scope(ctx.workspace());
  float* memory = scope.take<float>(counter.used() * scratch_slots(ctx, tasks));
  parallel_tasks(ctx, tasks, [&](int64_t task, int64_t slot) {
    ScratchCutter cut(memory + slot * counter.used());
    const ForwardScratch scratch(cut, sizes, Kind::kSums, Kind::kDropout);
    ForwardTask<Kind>(args, sizes, coefficients, scratch).run(task);
  });
}

void forward_target(const ExecutionContext& ctx, const AttentionForwardArgs& args) {
  const bool polynomial = args.config.activation != AttentionActivation::kSoftmax;
  const bool training = static_cast<bool>(args.stats);
  const bool dropout = dropout_threshold(args.dropout.p) != 0;
  const auto pick = [&]<bool kPolynomial, bool kTraining>() {
    return dropout ? &forward_kind<ForwardKind<kPolynomial, kTraining, true>>
                   : &forward_kind<ForwardKind<kPolynomial, kTraining, false>>;
  };
  auto* const run = polynomial ? (training ? pick.template operator()<true, true>()
                                           : pick.template operator()<true, false>())
                               : (training ? pick.template operator()<false, true>()
                                           : pick.template operator()<false, false>());
  run(ctx, args);
}

}  // namespace HWY_NAMESPACE
}  // namespace stemfabric::attention_cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stemfabric {

namespace attention_cpu {
namespace {
HWY_EXPORT(forward_target);
void forward(const ExecutionContext& ctx, const AttentionForwardArgs& args) {
  HWY_DYNAMIC_DISPATCH(forward_target)(ctx, args);
}
}  // namespace
}  // namespace attention_cpu

void cpu::attention_forward(const ExecutionContext& ctx, const AttentionForwardArgs& args) {
  if (args.q.elements() == 0) {
    return;
  }
  if (args.q.dtype() == DType::kBF16) {
    return in_float32(ctx, args, attention_forward, [](Widened& f32, auto& a) {
      f32.input(a.q);
      f32.input(a.k);
      f32.input(a.v);
      f32.output(a.o);
      f32.output(a.o2);
    });
  }
  attention_cpu::forward(ctx, args);
}

}  // namespace stemfabric
#endif
