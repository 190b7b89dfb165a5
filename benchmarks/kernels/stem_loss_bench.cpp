// The masked stem loss with its gradient; bf16: the gradient, which a bf16 model reads so.
#include "kernels/stem_loss/stem_loss.h"

#include <memory>

#include "benchmarks/support/kernel_benchmark.h"
#include "benchmarks/support/random_tensor.h"
#include "tests/oracles/stem_loss_cases.h"
#include "tests/oracles/stem_loss_oracle.h"
#include "tests/support/bf16.h"

namespace stemfabric::benchmarks {
namespace {

struct Data {
  Data(const ExecutionContext& ctx, const test::StemLossCase& c, DType gradients)
      : shape{c.s, c.b, c.t, c.o},
        masked(c.target_mask),
        prediction(random_tensor(ctx, shape, 1)),
        target(random_tensor(ctx, shape, 2)),
        mask(random_mask(ctx, shape, 3, 0.7)),
        gradient(output_tensor(ctx, shape, gradients)),
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

std::function<void()> prepare(const ExecutionContext& ctx, const test::StemLossCase& c,
                              DType gradients) {
  auto data = std::make_shared<Data>(ctx, c, gradients);
  stem_count(
      ctx, {.target_mask = data->target_mask(), .shape = data->shape, .count = data->count.view()});
  data->run(ctx);
  const auto oracle = test::stem_loss_oracle<double>(data->input(ctx));
  const auto naive = test::stem_loss_oracle<float>(data->input(ctx));
  const bool bf16 = gradients == DType::kBF16;
  require_within_bound("gradient", values_of(ctx, data->gradient),
                       bf16 ? test::rounded_to_bf16(naive.gradient) : naive.gradient,
                       oracle.gradient, bf16 ? test::kBf16Floor : test::Floor{});
  require_within_bound("loss", values_of(ctx, data->loss), naive.loss, oracle.loss);
  return [&ctx, data] { data->run(ctx); };
}

double bytes_of(const test::StemLossCase& c, DType gradients) {
  const auto spared = 4 - static_cast<int64_t>(dtype_size(gradients));
  return static_cast<double>(c.bytes() - spared * c.s * c.b * c.t * c.o);
}

void register_cases(const std::vector<test::StemLossCase>& cases, RunsOn on,
                    DType gradients = DType::kF32) {
  for (const test::StemLossCase& c : cases) {
    register_kernel({.name = "stem_loss/" + c.name + implementation_name(gradients),
                     .on = on,
                     .bytes = bytes_of(c, gradients),
                     .prepare = [=](const auto& ctx) { return prepare(ctx, c, gradients); }});
  }
}

bool register_all() {
  register_cases(test::stem_loss_benchmark_cases(), RunsOn::kAny);
  register_cases(test::stem_loss_gpu_benchmark_cases(), RunsOn::kGpu);
  register_cases(test::stem_loss_benchmark_cases(), RunsOn::kCpu, DType::kBF16);
  register_cases(test::stem_loss_gpu_benchmark_cases(), RunsOn::kGpu, DType::kBF16);
  return true;
}
const bool kRegistered = register_all();

}  // namespace
}  // namespace stemfabric::benchmarks
