// Rotary position embedding of one layer's queries.
#include "kernels/rotary/rotary.h"

#include <fmt/core.h>

#include <memory>

#include "benchmarks/support/kernel_benchmark.h"
#include "benchmarks/support/random_tensor.h"
#include "tests/oracles/rotary_oracle.h"
#include "tests/support/op_harness.h"

namespace stemfabric::benchmarks {
namespace {

struct Case {
  int64_t batch, tokens, heads, dim;
  RunsOn on;
  DType dtype = DType::kF32;
  Shape shape() const { return {batch, tokens, heads, dim}; }
};

std::function<void()> prepare(const ExecutionContext& ctx, const Case& c) {
  auto x = std::make_shared<Tensor>(random_tensor(ctx, c.shape(), 1, -1, 1, c.dtype));
  const RotaryArgs args = {.x = x->view()};
  const std::vector<double> oracle = test::rotary_oracle(values_of(ctx, *x), c.batch, c.tokens,
                                                         c.heads, c.dim, args.base, args.inverse);
  rotary(ctx, args);
  // As in tests/kernels/rotary_test.cpp: cosine, sine, product and sum each round once.
  require_within_bound("rotary", values_of(ctx, *x),
                       c.dtype == DType::kBF16 ? test::rounded_to_bf16(oracle) : oracle, oracle,
                       {.ulps = 4});
  return [&ctx, x, args] { rotary(ctx, args); };
}

bool register_all() {
  for (const Case& c : {Case{8, 256, 8, 32, RunsOn::kAny}, Case{32, 512, 8, 32, RunsOn::kGpu},
                        Case{8, 256, 8, 32, RunsOn::kCpu, DType::kBF16},
                        Case{32, 512, 8, 32, RunsOn::kGpu, DType::kBF16},
                        Case{128, 512, 8, 32, RunsOn::kGpu, DType::kBF16}}) {
    const auto element = static_cast<int64_t>(dtype_size(c.dtype));
    register_kernel({.name = fmt::format("rotary/B{}_T{}_H{}_D{}{}", c.batch, c.tokens, c.heads,
                                         c.dim, implementation_name(c.dtype)),
                     .on = c.on,
                     .bytes = static_cast<double>(2 * element * c.shape().elements()),
                     .prepare = [c](const auto& ctx) { return prepare(ctx, c); }});
  }
  return true;
}
const bool kRegistered = register_all();

}  // namespace
}  // namespace stemfabric::benchmarks
