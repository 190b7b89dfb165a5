// Attention of one layer. FLOP are the formula's products: 2 of size T x T x D forward, 4 more
// backward, although ours does 4 (2 without gradients) and 5. scratch_MB shows that memory grows
// linearly in T.
#include <memory>

#include "benchmarks/support/kernel_benchmark.h"
#include "tests/oracles/attention_cases.h"
#include "tests/support/attention_run.h"

namespace stemfabric::benchmarks {
namespace {

using test::AttentionCase;
using test::AttentionProblem;
using test::AttentionRun;

// Three query rows of every head are verified. With dO = 0 in all others, they alone make the
// gradients.
void verify(const AttentionCase& c, const ExecutionContext& ctx, AttentionProblem p,
            const DropoutConfig& dropout) {
  p.rows = {0, p.tokens / 2, p.tokens - 1};
  const int64_t row = p.heads * p.dim;
  for (int64_t i = 0; i < static_cast<int64_t>(p.d_o.size()); ++i) {
    const int64_t t = i / row % p.tokens;
    if (t != p.rows[0] && t != p.rows[1] && t != p.rows[2]) {
      p.d_o[static_cast<std::size_t>(i)] = 0.0;
    }
  }
  if (c.dropout > 0) {
    p.keep = test::attention_keep_oracle(dropout, p.batch, p.heads, p.tokens);
    p.keep_scale = dropout_scale(c.dropout);
  }
  AttentionRun run(p, dropout);
  run.run(ctx);
  const auto oracle = test::attention_oracle<double>(p);
  const auto naive = test::attention_oracle<float>(p);
  std::vector<double> o = run.o.values();
  for (std::size_t i = 0; i < o.size(); ++i) {
    const int64_t t = static_cast<int64_t>(i) / row % p.tokens;
    o[i] = t == p.rows[0] || t == p.rows[1] || t == p.rows[2] ? o[i] : 0.0;
  }
  require_within_bound(c.name + " o", o, test::widen(naive.o), oracle.o);
  require_within_bound(c.name + " dq", run.dq.values(), test::widen(naive.dq), oracle.dq);
  require_within_bound(c.name + " dk", run.dk.values(), test::widen(naive.dk), oracle.dk);
  require_within_bound(c.name + " dv", run.dv.values(), test::widen(naive.dv), oracle.dv);
}

using Pass = void (AttentionRun::*)(const ExecutionContext&);

std::function<void()> prepare(const AttentionCase& c, const ExecutionContext& ctx, Pass pass) {
  const DropoutConfig dropout{.p = c.dropout, .key = philox_launch_key(1, 2, 3, 1)};
  const AttentionProblem p =
      test::random_attention_problem(c.activation, c.batch, c.tokens, c.heads, c.dim, 1);
  verify(c, ctx, p, dropout);
  auto run = std::make_shared<AttentionRun>(p, dropout);
  run->forward(ctx);
  return [&ctx, run, pass] { (run.get()->*pass)(ctx); };
}

bool register_all() {
  struct Op {
    const char* name;
    Pass pass;
    double (AttentionCase::*flops)() const;
  };
  const Op ops[] = {
      {"attention_inference/", &AttentionRun::inference, &AttentionCase::forward_flops},
      {"attention_forward/", &AttentionRun::forward, &AttentionCase::forward_flops},
      {"attention_backward/", &AttentionRun::backward, &AttentionCase::backward_flops}};
  for (const AttentionCase& c : test::attention_benchmark_cases()) {
    for (const Op& op : ops) {
      register_kernel({.name = op.name + c.name + "/stemfabric",
                       .flops = (c.*op.flops)(),
                       .prepare = [c, op](const auto& ctx) { return prepare(c, ctx, op.pass); }});
    }
  }
  return true;
}

const bool kRegistered = register_all();

}  // namespace
}  // namespace stemfabric::benchmarks
