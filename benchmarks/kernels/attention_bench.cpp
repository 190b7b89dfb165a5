// Attention of one layer. FLOP are the fewest products (attention_cases.h); ours does more of them.
// scratch_MB shows that memory grows linearly in T. bf16, on a GPU: the same cases beside those in
// float32, and those of softmax by cuDNN too; where it is not installed, or has no kernel, these
// are an error.
#include <fmt/core.h>

#include <cmath>
#include <memory>

#include "benchmarks/support/kernel_benchmark.h"
#include "benchmarks/support/random_tensor.h"
#include "tests/oracles/attention_cases.h"
#include "tests/support/attention_run.h"

namespace stemfabric::benchmarks {
namespace {

using test::AttentionCase;
using test::AttentionProblem;

// Queries and keys whose scores have a standard deviation of 2, values of one of 1.
struct Data {
  Data(const ExecutionContext& ctx, const AttentionCase& c, DType dtype, bool cudnn)
      : shape{c.batch, c.tokens, c.heads, c.dim},
        config(config_of(c, cudnn)),
        dropout{.p = c.dropout, .key = philox_launch_key(1, 2, 3, 1)},
        q(random_of(ctx, 1, std::sqrt(2.0), dtype)),
        k(random_of(ctx, 2, std::sqrt(2.0), dtype)),
        v(random_of(ctx, 3, 1, dtype)),
        d_o(random_of(ctx, 4, 1, dtype)),
        o(output_tensor(ctx, shape, dtype)),
        o2(output_tensor(ctx, shape, dtype)),
        u(output_tensor(ctx, shape)),
        stats(output_tensor(ctx, {c.batch, c.heads, c.tokens, 4})),
        dq(output_tensor(ctx, shape, dtype)),
        dk(output_tensor(ctx, shape, dtype)),
        dv(output_tensor(ctx, shape, dtype)) {}

  void inference(const ExecutionContext& ctx) { attention_forward(ctx, forward_args()); }
  void forward(const ExecutionContext& ctx) {
    AttentionForwardArgs args = forward_args();
    args.o2 = o2.view();
    args.u = u.view();
    args.stats = stats.view();
    attention_forward(ctx, args);
  }
  void backward(const ExecutionContext& ctx) {
    AttentionBackwardArgs args;
    args.config = config;
    args.q = q.view();
    args.k = k.view();
    args.v = v.view();
    args.o = o.view();
    args.o2 = o2.view();
    args.u = u.view();
    args.stats = stats.view();
    args.d_o = d_o.view();
    args.dq = dq.view();
    args.dk = dk.view();
    args.dv = dv.view();
    args.dropout = dropout;
    attention_backward(ctx, args);
  }

  Shape shape;
  AttentionConfig config;
  DropoutConfig dropout;
  Tensor q, k, v, d_o, o, o2, u, stats, dq, dk, dv;

 private:
  static AttentionConfig config_of(const AttentionCase& c, bool cudnn) {
    AttentionConfig config;
    config.activation = c.activation;
    config.cudnn = cudnn;
    return config;
  }
  Tensor random_of(const ExecutionContext& ctx, uint64_t seed, double deviation,
                   DType dtype) const {
    const double most = std::sqrt(3.0) * deviation;
    return random_tensor(ctx, shape, seed, -most, most, dtype);
  }
  AttentionForwardArgs forward_args() {
    AttentionForwardArgs args;
    args.config = config;
    args.q = q.view();
    args.k = k.view();
    args.v = v.view();
    args.o = o.view();
    args.dropout = dropout;
    return args;
  }
};

// What the op is given, for the oracle.
AttentionProblem problem_of(const ExecutionContext& ctx, const AttentionCase& c, const Data& data) {
  AttentionProblem p;
  p.activation = c.activation;
  p.alpha = data.config.alpha;
  p.beta = data.config.beta;
  p.gamma = data.config.gamma;
  p.batch = c.batch;
  p.tokens = c.tokens;
  p.heads = c.heads;
  p.dim = c.dim;
  p.q = values_of(ctx, data.q);
  p.k = values_of(ctx, data.k);
  p.v = values_of(ctx, data.v);
  p.d_o = values_of(ctx, data.d_o);
  if (c.dropout > 0) {
    p.keep = test::attention_keep_oracle(data.dropout, p.batch, p.heads, p.tokens);
    p.keep_scale = dropout_scale(c.dropout);
  }
  return p;
}

// Three query rows of every head are verified. With dO = 0 in all others, they alone make the
// gradients.
void verify(const AttentionCase& c, const ExecutionContext& ctx, DType dtype, bool cudnn) {
  Data data(ctx, c, dtype, cudnn);
  AttentionProblem p = problem_of(ctx, c, data);
  p.rows = {0, p.tokens / 2, p.tokens - 1};
  const int64_t row = p.heads * p.dim;
  const auto is_verified = [&](int64_t i) {
    const int64_t t = i / row % p.tokens;
    return t == p.rows[0] || t == p.rows[1] || t == p.rows[2];
  };
  for (int64_t i = 0; i < static_cast<int64_t>(p.d_o.size()); ++i) {
    if (!is_verified(i)) {
      p.d_o[static_cast<std::size_t>(i)] = 0.0;
    }
  }
  data.d_o = tensor_of(ctx, data.shape, p.d_o, dtype);
  data.forward(ctx);
  if (cudnn && !std::isnan(values_of(ctx, data.o2).front())) {  // which it leaves as it was
    throw DeviceError("{} was not computed by cuDNN: the log says why", c.name);
  }
  data.backward(ctx);
  const auto oracle = test::attention_oracle<double>(p);
  const auto naive = test::attention_naive(p, dtype);
  const test::AttentionFloors floor = test::attention_floors(p, dtype);
  std::vector<double> o = values_of(ctx, data.o);
  for (std::size_t i = 0; i < o.size(); ++i) {
    o[i] = is_verified(static_cast<int64_t>(i)) ? o[i] : 0.0;
  }
  require_within_bound(c.name + " o", o, test::widen(naive.o), oracle.o, floor.o);
  require_within_bound(c.name + " dq", values_of(ctx, data.dq), test::widen(naive.dq), oracle.dq,
                       floor.dq);
  require_within_bound(c.name + " dk", values_of(ctx, data.dk), test::widen(naive.dk), oracle.dk,
                       floor.dk);
  require_within_bound(c.name + " dv", values_of(ctx, data.dv), test::widen(naive.dv), oracle.dv,
                       floor.dv);
}

struct Pass {
  const char* name;
  void (Data::*run)(const ExecutionContext&);
  double (AttentionCase::*flops)() const;
  int64_t arrays;  // of q's size, read or written
  bool with_stats;
};
constexpr Pass kPasses[] = {
    {"attention_inference/", &Data::inference, &AttentionCase::forward_flops, 4, false},
    {"attention_forward/", &Data::forward, &AttentionCase::forward_flops, 6, true},
    {"attention_backward/", &Data::backward, &AttentionCase::backward_flops, 10, true}};

double bytes_of(const AttentionCase& c, const Pass& pass, DType dtype) {
  const int64_t rows = c.batch * c.tokens * c.heads;
  const auto element = static_cast<int64_t>(dtype_size(dtype));
  int64_t bytes = element * pass.arrays * c.dim;
  if (pass.with_stats) {  // and u, which is one of the arrays, but always f32
    bytes += 16 + (4 - element) * c.dim;
  }
  return static_cast<double>(rows * bytes);
}

// The passes of a kind of attention, and the repetitions of each, are verified together.
std::function<void()> prepare(const AttentionCase& c, const ExecutionContext& ctx, const Pass& pass,
                              DType dtype, bool cudnn) {
  verify_once(fmt::format("{} {}{}", c.name, dtype_name(dtype), cudnn ? " cudnn" : ""),
              [&] { verify(c, ctx, dtype, cudnn); });
  auto data = std::make_shared<Data>(ctx, c, dtype, cudnn);
  data->forward(ctx);  // what the backward reads
  return [&ctx, data, run = pass.run] { (data.get()->*run)(ctx); };
}

void register_cases(const std::vector<AttentionCase>& cases, RunsOn on, DType dtype = DType::kF32,
                    bool cudnn = false) {
  const std::string name = cudnn ? "/stemfabric_cudnn" : implementation_name(dtype);
  for (const AttentionCase& c : cases) {
    if (cudnn && c.activation != AttentionActivation::kSoftmax) {
      continue;
    }
    for (const Pass& pass : kPasses) {
      register_kernel(
          {.name = pass.name + c.name + name,
           .on = on,
           .flops = (c.*pass.flops)(),
           .factors = dtype,
           .bytes = bytes_of(c, pass, dtype),
           .prepare = [=, &pass](const auto& ctx) { return prepare(c, ctx, pass, dtype, cudnn); }});
    }
  }
}

bool register_all() {
  register_cases(test::attention_benchmark_cases(), RunsOn::kAny);
  register_cases(test::attention_gpu_benchmark_cases(), RunsOn::kGpu);
  register_cases(test::attention_gpu_benchmark_cases(), RunsOn::kGpu, DType::kBF16);
  register_cases(test::attention_gpu_benchmark_cases(), RunsOn::kGpu, DType::kBF16, true);
  return true;
}
const bool kRegistered = register_all();

}  // namespace
}  // namespace stemfabric::benchmarks
