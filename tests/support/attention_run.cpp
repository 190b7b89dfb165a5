#include "tests/support/attention_run.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "runtime/core/bf16.h"

namespace stemfabric::test {
namespace {

GuardedTensor tensor_of(const AttentionProblem& p, const std::vector<double>& values,
                        const Layout& layout, DType dtype) {
  GuardedTensor tensor({p.batch, p.tokens, p.heads, p.dim}, dtype, layout);
  if (!values.empty()) {
    tensor.assign(values);
  }
  return tensor;
}

double largest(const std::vector<double>& x) {
  double out = 0;
  for (double v : x) {
    out = std::max(out, std::abs(v));
  }
  return out;
}

// The smallest number of keys that a row may attend to, but at least 1.
int64_t fewest_keys(const AttentionProblem& p) {
  int64_t fewest = p.tokens;
  for (auto at = p.key_mask.begin(); at != p.key_mask.end(); at += p.tokens) {
    fewest = std::min<int64_t>(fewest, std::count(at, at + p.tokens, 1));
  }
  return std::max<int64_t>(fewest, 1);
}

}  // namespace

AttentionRun::AttentionRun(const AttentionProblem& p, const DropoutConfig& dropout,
                           const Layout& layout, DType dtype)
    : q(tensor_of(p, p.q, layout, dtype)),
      k(tensor_of(p, p.k, layout, dtype)),
      v(tensor_of(p, p.v, layout, dtype)),
      d_o(tensor_of(p, p.d_o, layout, dtype)),
      key_mask({p.batch, p.tokens}, DType::kU8),
      o(tensor_of(p, {}, layout, dtype)),
      o2(tensor_of(p, {}, layout, dtype)),
      u(tensor_of(p, {}, layout, DType::kF32)),
      stats({p.batch, p.heads, p.tokens, 4}, DType::kF32),
      dq(tensor_of(p, {}, layout, dtype)),
      dk(tensor_of(p, {}, layout, dtype)),
      dv(tensor_of(p, {}, layout, dtype)),
      config_{p.activation, static_cast<float>(p.alpha), static_cast<float>(p.beta),
              static_cast<float>(p.gamma)},
      dropout_(dropout),
      masked_(!p.key_mask.empty()) {
  if (masked_) {
    key_mask.assign(std::vector<double>(p.key_mask.begin(), p.key_mask.end()));
  }
}

AttentionForwardArgs AttentionRun::forward_args(bool training) {
  AttentionForwardArgs args;
  args.config = config_;
  args.q = q.view();
  args.k = k.view();
  args.v = v.view();
  args.o = o.view();
  args.dropout = dropout_;
  if (masked_) {
    args.key_mask = key_mask.view();
  }
  if (training) {
    args.o2 = o2.view();
    args.u = u.view();
    args.stats = stats.view();
  }
  return args;
}

void AttentionRun::forward(const ExecutionContext& ctx) {
  attention_forward(ctx, forward_args(true));
}

void AttentionRun::inference(const ExecutionContext& ctx) {
  attention_forward(ctx, forward_args(false));
}

void AttentionRun::backward(const ExecutionContext& ctx) {
  AttentionBackwardArgs args;
  args.config = config_;
  args.q = q.view();
  args.k = k.view();
  args.v = v.view();
  if (masked_) {
    args.key_mask = key_mask.view();
  }
  args.o = o.view();
  args.o2 = o2.view();
  args.u = u.view();
  args.stats = stats.view();
  args.d_o = d_o.view();
  args.dq = dq.view();
  args.dk = dk.view();
  args.dv = dv.view();
  args.dropout = dropout_;
  attention_backward(ctx, args);
}

void AttentionRun::run_repeatably() {
  test::run_repeatably({&o, &o2, &u, &stats}, [&](const auto& ctx) { forward(ctx); });
  test::run_repeatably({&dq, &dk, &dv}, [&](const auto& ctx) { backward(ctx); });
}

AttentionFloors attention_floors(const AttentionProblem& p, DType dtype) {
  // dS = A (dA − Σ A dA) cancels where a row is almost one-hot or constant: what is left is the
  // rounding of numbers of the size of dA, about |dO| |V|, times the other factor of dQ and dK.
  // O is formed as (c0 V̂ + Σ R V) / g: product, sum, row sum and division round once each, also
  // where the naive computation happens to be exact (a single key).
  const double value = largest(p.d_o) * largest(p.v);
  double d_score = 0x1p-24 * value;
  double ulps = 4;
  if (dtype == DType::kBF16) {
    // One rounding of a result. And O2 is saved in bfloat16: dO·O2 enters dS with the weight w A,
    // w <= γ / (number of keys), and that matters where keys are few.
    ulps = 0x1p-9 / 0x1p-24;
    d_score += 0x1p-9 * p.gamma / static_cast<double>(fewest_keys(p)) * value;
  }
  return {.o = {.ulps = ulps},
          .dq = {.ulps = ulps / 2, .absolute = d_score * largest(p.k)},
          .dk = {.ulps = ulps / 2, .absolute = d_score * largest(p.q)},
          .dv = {.ulps = ulps}};
}

AttentionResult<float> attention_naive(const AttentionProblem& p, DType dtype) {
  return dtype == DType::kBF16 ? attention_naive_bf16(p) : attention_oracle<float>(p);
}

void expect_attention(const AttentionRun& run, const AttentionProblem& p,
                      const AttentionResult<double>& expected) {
  const DType dtype = run.o.view().dtype();
  const AttentionResult<float> naive = attention_naive(p, dtype);
  const AttentionFloors floor = attention_floors(p, dtype);
  expect_within_bound("o", run.o.values(), widen(naive.o), expected.o, floor.o);
  expect_within_bound("dq", run.dq.values(), widen(naive.dq), expected.dq, floor.dq);
  expect_within_bound("dk", run.dk.values(), widen(naive.dk), expected.dk, floor.dk);
  expect_within_bound("dv", run.dv.values(), widen(naive.dv), expected.dv, floor.dv);
}

AttentionProblem rounded_to_bf16(AttentionProblem p) {
  for (auto* x : {&p.q, &p.k, &p.v, &p.d_o}) {
    for (double& value : *x) {
      value = from_bf16(to_bf16(static_cast<float>(value)));
    }
  }
  return p;
}

AttentionProblem random_attention_problem(AttentionActivation activation, int64_t batch,
                                          int64_t tokens, int64_t heads, int64_t dim, uint64_t seed,
                                          double score_std) {
  AttentionProblem p;
  p.activation = activation;
  p.batch = batch;
  p.tokens = tokens;
  p.heads = heads;
  p.dim = dim;
  std::mt19937_64 random(seed);
  const auto fill = [&](std::vector<double>& x, double size) {
    x.resize(static_cast<std::size_t>(batch * tokens * heads * dim));
    for (double& value : x) {
      // The sum of 12 uniform numbers; the same on every platform, unlike normal_distribution.
      double sum = -6.0;
      for (int i = 0; i < 12; ++i) {
        sum += static_cast<double>(random() >> 11) * 0x1p-53;
      }
      value = static_cast<float>(size * sum);
    }
  };
  fill(p.q, std::sqrt(score_std));
  fill(p.k, std::sqrt(score_std));
  fill(p.v, 1.0);
  fill(p.d_o, 1.0);
  return p;
}

void pad_keys(AttentionProblem& p) {
  p.key_mask.assign(static_cast<std::size_t>(p.batch * p.tokens), 0);
  for (int64_t b = 0; b < p.batch; ++b) {
    const int64_t open = std::max<int64_t>(1, p.tokens - 1 - b * (p.tokens / 3));
    std::fill_n(p.key_mask.begin() + b * p.tokens, open, uint8_t{1});
  }
}

void mask_keys_at_random(AttentionProblem& p, uint64_t seed, double open) {
  std::mt19937_64 random(seed);
  p.key_mask.assign(static_cast<std::size_t>(p.batch * p.tokens), 0);
  for (uint8_t& bit : p.key_mask) {
    bit = static_cast<double>(random() >> 11) * 0x1p-53 < open ? 1 : 0;
  }
}

}  // namespace stemfabric::test
