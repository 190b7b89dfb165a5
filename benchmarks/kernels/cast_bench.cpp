// Copies from one element type to the other: the weights of a bf16 model, each step.
#include "kernels/cast/cast.h"

#include <fmt/core.h>

#include <memory>

#include "benchmarks/support/kernel_benchmark.h"
#include "benchmarks/support/random_tensor.h"
#include "tests/support/op_harness.h"

namespace stemfabric::benchmarks {
namespace {

struct Data {
  Data(const ExecutionContext& ctx, int64_t n, DType to)
      : x(random_tensor(ctx, {n}, 1, -3, 3, to == DType::kBF16 ? DType::kF32 : DType::kBF16)),
        y(output_tensor(ctx, {n}, to)) {}
  Tensor x, y;
};

std::function<void()> prepare(const ExecutionContext& ctx, int64_t n, DType to) {
  auto data = std::make_shared<Data>(ctx, n, to);
  std::function<void()> run = [&ctx, data] {
    cast(ctx, {.x = data->x.view(), .y = data->y.view()});
  };
  run();
  // What is bf16 already, rounding leaves as it is.
  require_equal("cast", values_of(ctx, data->y), test::rounded_to_bf16(values_of(ctx, data->x)));
  return run;
}

bool register_all() {
  struct Size {
    int64_t n;
    RunsOn on;
  };
  for (const Size& size : {Size{1 << 20, RunsOn::kCpu}, Size{32 << 20, RunsOn::kGpu}}) {
    for (const DType to : {DType::kBF16, DType::kF32}) {
      register_kernel({.name = fmt::format("cast_to_{}/n:{}/stemfabric", dtype_name(to), size.n),
                       .on = size.on,
                       .bytes = static_cast<double>(size.n * (4 + 2)),
                       .prepare = [=](const auto& ctx) { return prepare(ctx, size.n, to); }});
    }
  }
  return true;
}
const bool kRegistered = register_all();

}  // namespace
}  // namespace stemfabric::benchmarks
