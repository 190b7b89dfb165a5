// Standardised features of a batch; bf16: what is written.
#include "kernels/standardize/standardize.h"

#include <fmt/core.h>

#include <memory>

#include "benchmarks/support/kernel_benchmark.h"
#include "benchmarks/support/random_tensor.h"
#include "tests/support/op_harness.h"

namespace stemfabric::benchmarks {
namespace {

// A mean far from zero against a small deviation, as features have.
struct Data {
  Data(const ExecutionContext& ctx, const Shape& shape, DType dtype)
      : x(random_tensor(ctx, shape, 1, 999, 1001)),
        mean(random_tensor(ctx, {shape[1]}, 2, 999.5, 1000.5)),
        scale(random_tensor(ctx, {shape[1]}, 3, 0.5, 2)),
        y(output_tensor(ctx, shape, dtype)) {}
  Tensor x, mean, scale, y;
};

template <typename T>
std::vector<double> expected(const ExecutionContext& ctx, const Data& data) {
  const auto mean = values_of(ctx, data.mean);
  const auto scale = values_of(ctx, data.scale);
  std::vector<double> y = values_of(ctx, data.x);
  for (std::size_t i = 0; i < y.size(); ++i) {
    const std::size_t c = i % mean.size();
    y[i] = static_cast<double>((static_cast<T>(y[i]) - static_cast<T>(mean[c])) *
                               static_cast<T>(scale[c]));
  }
  return y;
}

std::function<void()> prepare(const ExecutionContext& ctx, const Shape& shape, DType dtype) {
  auto data = std::make_shared<Data>(ctx, shape, dtype);
  std::function<void()> run = [&ctx, data] {
    standardize(ctx, {.x = data->x.view(),
                      .mean = data->mean.view(),
                      .scale = data->scale.view(),
                      .y = data->y.view()});
  };
  run();
  const std::vector<double> naive = expected<float>(ctx, *data);
  require_within_bound("standardize", values_of(ctx, data->y),
                       dtype == DType::kBF16 ? test::rounded_to_bf16(naive) : naive,
                       expected<double>(ctx, *data));
  return run;
}

bool register_all() {
  struct Size {
    int64_t rows, columns;
    RunsOn on;
    DType dtype = DType::kF32;
  };
  for (const Size& size : {Size{2048, 256, RunsOn::kAny}, Size{65536, 256, RunsOn::kGpu},
                           Size{2048, 256, RunsOn::kCpu, DType::kBF16},
                           Size{65536, 256, RunsOn::kGpu, DType::kBF16}}) {
    const Shape shape{size.rows, size.columns};
    const auto element = static_cast<int64_t>(dtype_size(size.dtype));
    register_kernel(
        {.name = fmt::format("standardize/{}x{}{}", size.rows, size.columns,
                             implementation_name(size.dtype)),
         .on = size.on,
         .bytes = static_cast<double>((4 + element) * shape.elements() + 8 * size.columns),
         .prepare = [shape, dtype = size.dtype](const auto& ctx) {
           return prepare(ctx, shape, dtype);
         }});
  }
  return true;
}
const bool kRegistered = register_all();

}  // namespace
}  // namespace stemfabric::benchmarks
