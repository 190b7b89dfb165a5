// The norm of all gradients, and sums over rows: of a bias, and of a table of 512 positions.
#include "kernels/reduction/reduction.h"

#include <fmt/core.h>

#include <memory>
#include <utility>

#include "benchmarks/support/kernel_benchmark.h"
#include "benchmarks/support/random_tensor.h"
#include "tests/oracles/reduction_oracle.h"

namespace stemfabric::benchmarks {
namespace {

// A float64 sum in another order than the oracle's: the bound of tests/kernels/reduction_test.cpp.
// One after the other, so many float64 would leave more than that: the oracle is a longer type.
constexpr test::Floor kSumFloor = {.ulps = 1e-13 / 0x1p-24};

std::function<void()> prepare_squares(const ExecutionContext& ctx, int64_t n) {
  auto x = std::make_shared<Tensor>(random_tensor(ctx, {n}, 1, -10, 10));
  auto result = std::make_shared<Tensor>(output_tensor(ctx, {3}, DType::kF64));
  std::function<void()> run = [&ctx, x, result] {
    sum_squares_into(ctx, {.x = x->view(), .result = result->view()});
  };
  run();
  const std::vector<double> sums = values_of(ctx, *result);
  const std::vector<double> oracle = {test::sum_squares_oracle<long double>(values_of(ctx, *x))};
  require_within_bound("sum_squares", std::vector{sums[0]}, oracle, oracle, kSumFloor);
  require_equal("sum_squares, what is not finite", std::vector{sums[1], sums[2]},
                std::vector{0.0, -1.0});
  return run;
}

struct Columns {
  int64_t m, n, period;
  RunsOn on;
  DType dtype = DType::kF32;
  double bytes() const {
    return static_cast<double>(static_cast<int64_t>(dtype_size(dtype)) * m * n + 8 * period * n);
  }
};

std::function<void()> prepare_columns(const ExecutionContext& ctx, const Columns& c) {
  auto x = std::make_shared<Tensor>(random_tensor(ctx, {c.m, c.n}, 1, -1, 2, c.dtype));
  auto out = std::make_shared<Tensor>(random_tensor(ctx, {c.period, c.n}, 2));
  const std::vector<double> before = values_of(ctx, *out);
  std::function<void()> run = [&ctx, x, out] {
    column_sum(ctx, {.x = x->view(), .out = out->view()});
  };
  run();
  const std::vector<double> values = values_of(ctx, *x);
  require_within_bound("column_sum", values_of(ctx, *out),
                       test::widen(test::column_sum_oracle<float>(values, before)),
                       test::column_sum_oracle<double>(values, before));
  return run;
}

bool register_all() {
  for (const auto& [n, on] : {std::pair{4 << 20, RunsOn::kAny}, {64 << 20, RunsOn::kGpu}}) {
    register_kernel({.name = fmt::format("sum_squares/n:{}/stemfabric", n),
                     .on = on,
                     .bytes = 4.0 * n,
                     .prepare = [n = n](const auto& ctx) { return prepare_squares(ctx, n); }});
  }
  for (const Columns& c :
       {Columns{2048, 256, 1, RunsOn::kAny}, Columns{2048, 256, 256, RunsOn::kAny},
        Columns{16384, 1536, 1, RunsOn::kGpu}, Columns{65536, 256, 512, RunsOn::kGpu},
        Columns{2048, 256, 1, RunsOn::kCpu, DType::kBF16},
        Columns{16384, 1536, 1, RunsOn::kGpu, DType::kBF16},
        Columns{65536, 256, 512, RunsOn::kGpu, DType::kBF16}}) {
    register_kernel({.name = fmt::format("column_sum/{}x{}_to_{}{}", c.m, c.n, c.period,
                                         implementation_name(c.dtype)),
                     .on = c.on,
                     .bytes = c.bytes(),
                     .prepare = [c](const auto& ctx) { return prepare_columns(ctx, c); }});
  }
  return true;
}
const bool kRegistered = register_all();

}  // namespace
}  // namespace stemfabric::benchmarks
