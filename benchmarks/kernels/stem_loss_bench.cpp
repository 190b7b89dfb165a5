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
  explicit Data(const test::StemLossCase& c)
      : shape{c.s, c.b, c.t, c.o},
        masked(c.target_mask),
        prediction(random_tensor(shape, 1)),
        target(random_tensor(shape, 2)),
        mask(shape, DType::kU8),
        gradient(shape, DType::kF32),
        count(Tensor::zeros({c.s}, DType::kF64)),
        loss(Tensor::zeros({c.s}, DType::kF64)),
        weighted(Tensor::zeros({c.s}, DType::kF64)) {
    const auto ones = test::GuardedTensor::random_mask(shape, 3, 0.7).values();
    for (std::size_t i = 0; i < ones.size(); ++i) {
      mask.as<uint8_t>()[i] = ones[i] != 0 ? 1 : 0;
    }
  }
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
  test::StemLossInput input() const {
    return {shape[0],
            shape[1],
            shape[2],
            shape[3],
            values_of(prediction),
            values_of(target),
            masked ? std::vector<double>(mask.as<uint8_t>(), mask.as<uint8_t>() + mask.elements())
                   : std::vector<double>{},
            {},
            {}};
  }

  Shape shape;
  bool masked;
  Tensor prediction, target, mask, gradient, count, loss, weighted;
};

std::function<void()> prepare(const ExecutionContext& ctx, const test::StemLossCase& c) {
  auto data = std::make_shared<Data>(c);
  stem_count(
      ctx, {.target_mask = data->target_mask(), .shape = data->shape, .count = data->count.view()});
  data->run(ctx);
  const auto oracle = test::stem_loss_oracle<double>(data->input());
  const auto naive = test::stem_loss_oracle<float>(data->input());
  require_within_bound("gradient", values_of(data->gradient), naive.gradient, oracle.gradient);
  require_within_bound("loss", values_of(data->loss), naive.loss, oracle.loss);
  return [&ctx, data] { data->run(ctx); };
}

bool register_all() {
  for (const test::StemLossCase& c : test::stem_loss_benchmark_cases()) {
    register_kernel({.name = "stem_loss/" + c.name + "/stemfabric",
                     .bytes = static_cast<double>(c.bytes()),
                     .prepare = [c](const auto& ctx) { return prepare(ctx, c); }});
  }
  return true;
}
const bool kRegistered = register_all();

}  // namespace
}  // namespace stemfabric::benchmarks
