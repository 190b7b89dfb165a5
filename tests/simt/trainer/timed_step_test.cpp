// The step of benchmarks/trainer as a graph: what train_step_bench times on a GPU.
#include "benchmarks/trainer/timed_step.h"

#include <gtest/gtest.h>

#include "tests/simt/trainer/devices.h"

namespace stemfabric::test {
namespace {

ModelConfig small_model() {
  ModelConfig model;
  model.input_dim = model.output_dim = 5;
  model.dim = 8;
  model.heads = 2;
  model.depth = 1;
  model.dim_ff = 12;
  model.max_sequence_length = 4;
  model.attn_dropout = model.ff_dropout = 0;  // a graph repeats that of one step
  return model;
}

TEST(TimedStep, AsAGraphDoesWhatTheLaunchesDo) {
  SimtDeviceMemory memory;
  const auto after_steps = [&](int64_t launched, int64_t repeated) {
    const ExecutionContext ctx = simt_device(memory);
    benchmarks::TimedStep step(ctx, small_model(), {.batch = 2, .tokens = 4});
    auto& stream = dynamic_cast<SimtStream&>(ctx.stream());
    benchmarks::time_steps(stream, launched, [&] { step.run(); });
    if (repeated > 0) {
      const auto graph = benchmarks::captured(stream, step);
      const auto times = benchmarks::time_steps(stream, repeated, [&] { graph->launch(); });
      EXPECT_GE(times.median, times.least);
    }
    EXPECT_EQ(stream.graph_launches(), repeated);
    return std::pair(step.loss(), step.gradient_norm());
  };
  const auto [loss, norm] = after_steps(4, 0);
  EXPECT_EQ(after_steps(1, 3), std::pair(loss, norm));
  EXPECT_NE(after_steps(1, 0).first, loss) << "the steps change nothing";
}

TEST(TimedStep, IsNoGraphOnTheCpu) {
  const ExecutionContext ctx = cpu_context();
  benchmarks::TimedStep step(ctx, small_model(), {.batch = 1, .tokens = 2});
  step.run();
  EXPECT_EQ(benchmarks::captured(ctx.stream(), step), nullptr);
}

}  // namespace
}  // namespace stemfabric::test
