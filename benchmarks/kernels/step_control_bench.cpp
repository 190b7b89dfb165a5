// The decision whether a step is made: one small kernel, whose time is that of starting one.
#include "kernels/step_control/step_control.h"

#include <memory>

#include "benchmarks/support/kernel_benchmark.h"
#include "benchmarks/support/random_tensor.h"

namespace stemfabric::benchmarks {
namespace {

using Values = std::vector<double>;

struct Data {
  explicit Data(const ExecutionContext& ctx)
      : squares(doubles(ctx, {25, 0, -1})),
        loss(doubles(ctx, Values(6, 0.5))),
        weighted(doubles(ctx, Values(6, 0.25))),
        lr(doubles(ctx, {0.01})),
        steps(doubles(ctx, {0})),
        gate(output_tensor(ctx, {3}, DType::kF64)),
        scalars(output_tensor(ctx, {3}, DType::kF64)) {}
  static Tensor doubles(const ExecutionContext& ctx, const Values& values) {
    return tensor_of(ctx, {static_cast<int64_t>(values.size())}, values, DType::kF64);
  }
  Tensor squares, loss, weighted, lr, steps, gate, scalars;
};

std::function<void()> prepare(const ExecutionContext& ctx) {
  auto data = std::make_shared<Data>(ctx);
  std::function<void()> run = [&ctx, data] {
    step_control(ctx, {.squares = data->squares.view(),
                       .loss = data->loss.view(),
                       .weighted = data->weighted.view(),
                       .clip = 1.25,
                       .gate = data->gate.view(),
                       .lr = data->lr.view(),
                       .beta1 = 0.75,
                       .beta2 = 0.5,
                       .steps = data->steps.view(),
                       .scalars = data->scalars.view()});
  };
  run();
  require_equal("gate", values_of(ctx, data->gate), Values{0.25, 1, 5});
  require_equal("steps", values_of(ctx, data->steps), Values{1});
  require_equal("scalars", values_of(ctx, data->scalars), Values{0.01, 0.25, 0.5});
  return run;
}

const bool kRegistered = register_kernel({.name = "step_control/stems:6/stemfabric",
                                          .bytes = 8 * (3 + 2 * 6 + 3 + 1 + 2 + 3),
                                          .prepare = prepare});

}  // namespace
}  // namespace stemfabric::benchmarks
