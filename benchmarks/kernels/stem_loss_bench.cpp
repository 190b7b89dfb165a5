// The masked stem loss with its gradient.
#include "kernels/stem_loss/stem_loss.h"

#include <memory>

#include "benchmarks/support/kernel_benchmark.h"
#include "benchmarks/support/random_tensor.h"
#include "tests/oracles/stem_loss_cases.h"
#include "tests/oracles/stem_loss_oracle.h"

namespace stemfabric::benchmarks {
namespace {

struct Data {
  Data(const ExecutionContext& ctx, const test::StemLossCase& c)
      : shape{c.s, c.b, c.t, c.o},
        masked(c.target_mask),
        prediction(random_tensor(ctx, shape, 1)),
        target(random_tensor(ctx, shape, 2)),
        mask(random_mask(ctx, shape, 3, 0.7)),
        gradient(output_tensor(ctx, shape)),
        count(zero_tensor(ctx, {c.s}, DType::kF64)),
        loss(zero_tensor(ctx, {c.s}, DType::kF64)),
        weighted(zero_tensor(ctx, {c.s}, DType::kF64)) {}
  ConstTensorView target_mask() const { return masked ? mask.view() : ConstTensorView(); }
  void run(const ExecutionContext& ctx) {
    stem_loss(ctx, {.prediction = prediction.view(),
                    .target = target.view(),
                    .target_mask = target_mask(),
                    .count = count.view(),
                    .gradient = gradient.view(),
                    .loss = loss.view(),
                    .weighted = weighted.view()});
  }
  test::StemLossInput input(const ExecutionContext& ctx) const {
    return {shape[0],
            shape[1],
            shape[2],
            shape[3],
            values_of(ctx, prediction),
            values_of(ctx, target),
            masked ? values_of(ctx, mask) : std::vector<double>{},
            {},
            {}};
  }

  Shape shape;
  bool masked;
  Tensor prediction, target, mask, gradient, count, loss, weighted;
};

std::function<void()> prepare(const ExecutionContext& ctx, const test::StemLossCase& c) {
  auto data = std::make_shared<Data>(ctx, c);
  stem_count(
      ctx, {.target_mask = data->target_mask(), .shape = data->shape, .count = data->count.view()});
  data->run(ctx);
  const auto oracle = test::stem_loss_oracle<double>(data->input(ctx));
  const auto naive = test::stem_loss_oracle<float>(data->input(ctx));
  require_within_bound("gradient", values_of(ctx, data->gradient), naive.gradient, oracle.gradient);
  require_within_bound("loss", values_of(ctx, data->loss), naive.loss, oracle.loss);
  return [&ctx, data] { data->run(ctx); };
}

void register_cases(const std::vector<test::StemLossCase>& cases, RunsOn on) {
  for (const test::StemLossCase& c : cases) {
    register_kernel({.name = "stem_loss/" + c.name + "/stemfabric",
                     .on = on,
                     .bytes = static_cast<double>(c.bytes()),
                     .prepare = [c](const auto& ctx) { return prepare(ctx, c); }});
  }
}

bool register_all() {
  register_cases(test::stem_loss_benchmark_cases(), RunsOn::kAny);
  register_cases(test::stem_loss_gpu_benchmark_cases(), RunsOn::kGpu);
  return true;
}
const bool kRegistered = register_all();

}  // namespace
}  // namespace stemfabric::benchmarks
