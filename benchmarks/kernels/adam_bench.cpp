// One Adam step over one block of parameters, and their moving average.
#include "kernels/adam/adam.h"

#include <fmt/core.h>

#include <memory>
#include <utility>

#include "benchmarks/support/kernel_benchmark.h"
#include "benchmarks/support/random_tensor.h"
#include "tests/oracles/adam_cases.h"
#include "tests/oracles/adam_oracle.h"

namespace stemfabric::benchmarks {
namespace {

struct Data {
  Data(const ExecutionContext& ctx, int64_t n)
      : parameter(random_tensor(ctx, {n}, 1)),
        gradient(random_tensor(ctx, {n}, 2)),
        m(random_tensor(ctx, {n}, 3)),
        v(random_tensor(ctx, {n}, 4, 0, 1)) {}
  Tensor parameter, gradient, m, v;
};

template <typename T>
std::vector<double> expected(const ExecutionContext& ctx, const Data& data, const AdamArgs& args) {
  test::AdamState<T> state;
  const auto copy = [&](const Tensor& tensor, std::vector<T>& to) {
    const auto values = values_of(ctx, tensor);
    to.assign(values.begin(), values.end());
  };
  copy(data.parameter, state.parameter);
  copy(data.m, state.m);
  copy(data.v, state.v);
  test::adam_oracle(state, values_of(ctx, data.gradient), args);
  return {state.parameter.begin(), state.parameter.end()};
}

std::function<void()> prepare(const ExecutionContext& ctx, const test::AdamCase& c) {
  auto data = std::make_shared<Data>(ctx, c.n);
  const AdamArgs args = {.parameter = data->parameter.view(),
                         .m = data->m.view(),
                         .v = data->v.view(),
                         .gradient = data->gradient.view(),
                         .step = 3,
                         .weight_decay = c.weight_decay,
                         .decoupled = c.decoupled,
                         .form = c.form};
  const auto oracle = expected<double>(ctx, *data, args);
  const auto naive = expected<float>(ctx, *data, args);
  adam_step(ctx, args);
  require_within_bound("adam", values_of(ctx, data->parameter), naive, oracle);
  return [&ctx, data, args] { adam_step(ctx, args); };
}

std::function<void()> prepare_average(const ExecutionContext& ctx, int64_t n) {
  auto average = std::make_shared<Tensor>(random_tensor(ctx, {n}, 1));
  auto parameter = std::make_shared<Tensor>(random_tensor(ctx, {n}, 2));
  const std::vector<double> before = values_of(ctx, *average);
  const EmaArgs args = {.average = average->view(), .parameter = parameter->view()};
  ema_update(ctx, args);
  const std::vector<double> values = values_of(ctx, *parameter);
  require_within_bound("ema", values_of(ctx, *average),
                       test::widen(test::ema_oracle<float>(before, values, args.momentum)),
                       test::ema_oracle<double>(before, values, args.momentum));
  return [&ctx, average, parameter, args] { ema_update(ctx, args); };
}

void register_cases(const std::vector<test::AdamCase>& cases, RunsOn on) {
  for (const test::AdamCase& c : cases) {
    register_kernel({.name = "adam/" + c.name + "/stemfabric",
                     .on = on,
                     .bytes = static_cast<double>(c.bytes()),
                     .prepare = [c](const auto& ctx) { return prepare(ctx, c); }});
  }
}

bool register_all() {
  register_cases(test::adam_benchmark_cases(), RunsOn::kAny);
  register_cases(test::adam_gpu_benchmark_cases(), RunsOn::kGpu);
  for (const auto& [n, on] : {std::pair{4 << 20, RunsOn::kAny}, {32 << 20, RunsOn::kGpu}}) {
    register_kernel({.name = fmt::format("ema/n:{}/stemfabric", n),
                     .on = on,
                     .bytes = 12.0 * n,  // reads both, writes the average
                     .prepare = [n = n](const auto& ctx) { return prepare_average(ctx, n); }});
  }
  return true;
}
const bool kRegistered = register_all();

}  // namespace
}  // namespace stemfabric::benchmarks
