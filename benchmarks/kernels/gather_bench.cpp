// A batch from a data set that lies on the device: rows of tokens · features floats.
#include "kernels/gather/gather.h"

#include <fmt/core.h>

#include <memory>

#include "benchmarks/support/kernel_benchmark.h"
#include "benchmarks/support/random_tensor.h"

namespace stemfabric::benchmarks {
namespace {

struct Case {
  int64_t rows, batch, tokens, features;
  RunsOn on;
  int64_t row() const { return tokens * features; }
  // Scattered over the table, also twice.
  int64_t number(int64_t i) const { return i * 7919 % rows; }
};

struct Data {
  Data(const ExecutionContext& ctx, const Case& c)
      : x(random_tensor(ctx, {c.rows, c.tokens, c.features}, 1)),
        index(tensor_of(ctx, {c.batch}, numbers(c), DType::kI32)),
        y(output_tensor(ctx, {c.batch, c.tokens, c.features})) {}
  static std::vector<double> numbers(const Case& c) {
    std::vector<double> numbers;
    for (int64_t i = 0; i < c.batch; ++i) {
      numbers.push_back(static_cast<double>(c.number(i)));
    }
    return numbers;
  }
  Tensor x, index, y;
};

std::function<void()> prepare(const ExecutionContext& ctx, const Case& c) {
  auto data = std::make_shared<Data>(ctx, c);
  std::function<void()> run = [&ctx, data] {
    gather(ctx, {.x = data->x.view(), .index = data->index.view(), .y = data->y.view()});
  };
  run();
  const std::vector<double> table = values_of(ctx, data->x);
  std::vector<double> expected;
  for (int64_t i = 0; i < c.batch; ++i) {
    const auto row = table.begin() + c.number(i) * c.row();
    expected.insert(expected.end(), row, row + c.row());
  }
  require_equal("gather", values_of(ctx, data->y), expected);
  return run;
}

bool register_all() {
  for (const Case& c :
       {Case{100, 32, 25, 256, RunsOn::kAny}, Case{300, 128, 512, 256, RunsOn::kGpu}}) {
    register_kernel({.name = fmt::format("gather/{}_of_{}x{}x{}/stemfabric", c.batch, c.rows,
                                         c.tokens, c.features),
                     .on = c.on,
                     .bytes = static_cast<double>(c.batch * (2 * 4 * c.row() + 4)),
                     .prepare = [c](const auto& ctx) { return prepare(ctx, c); }});
  }
  return true;
}
const bool kRegistered = register_all();

}  // namespace
}  // namespace stemfabric::benchmarks
