// The memory that proves the trainer's host code clean must itself notice what it is there for.
#include "tests/simt/device_memory.h"

#include <gtest/gtest.h>

#include "kernels/standardize/standardize.h"
#include "runtime/memory/buffer.h"
#include "runtime/memory/host_access.h"
#include "tests/support/op_harness.h"

namespace stemfabric::test {
namespace {

TEST(SimtDeviceMemoryDeathTest, EndsTheProgramWhereTheHostTouchesIt) {
  const ExecutionContext& ctx = test_context();
  Tensor tensor({4}, DType::kF32, ctx.resource(), "weights of the test");
  volatile float* memory = tensor.as<float>();
  EXPECT_DEATH({ memory[1] = 1.0F; }, "host touched memory of the device.*weights of the test");
  EXPECT_DEATH({ [[maybe_unused]] const float x = memory[1]; },
               "host touched memory of the device.*weights of the test");
}

TEST(SimtDeviceMemory, IsReachedByCopiesFillsAndKernels) {
  const ExecutionContext& ctx = test_context();
  Tensor x({1, 4}, DType::kF32, ctx.resource());
  Tensor mean({4}, DType::kF32, ctx.resource());
  Tensor scale({4}, DType::kF32, ctx.resource());
  const float values[] = {1, 2, 3, 4};
  copy_from_host(ctx, x.view(), values);
  copy_from_host(ctx, scale.view(), values);
  ctx.stream().fill(mean.view().data(), 0, mean.bytes());
  standardize(ctx, {.x = x.view(), .mean = mean.view(), .scale = scale.view(), .y = x.view()});
  const HostView result(ctx, x.view());
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(result.as<float>()[i], values[i] * values[i]);
  }
}

TEST(SimtDeviceMemory, KernelsAreNotGivenHostMemory) {
  const ExecutionContext& ctx = test_context();
  Tensor x({1, 4}, DType::kF32, ctx.resource());
  Tensor on_host = Tensor::zeros({4}, DType::kF32);
  expect_contract_error({"standardize_kernel", "no address of the device's memory"}, [&] {
    standardize(ctx,
                {.x = x.view(), .mean = on_host.view(), .scale = on_host.view(), .y = x.view()});
  });
}

TEST(SimtDeviceMemory, RunsOut) {
  SimtDeviceMemory memory(1000);
  const Buffer first(memory, 600, "first");
  EXPECT_EQ(memory.available_bytes(), 400);
  EXPECT_THROW(Buffer(memory, 500, "second"), OutOfMemoryError);
}

}  // namespace
}  // namespace stemfabric::test
