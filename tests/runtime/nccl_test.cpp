// NCCL itself: it is loaded when it is first asked for, and adds up on a GPU if there is one. Of
// one rank, which is what a single GPU can have.
#include <gtest/gtest.h>

#include <array>
#include <cstring>

#include "runtime/collectives/device_collectives.h"
#include "runtime/core/bf16.h"
#include "runtime/core/check.h"
#include "runtime/memory/host_access.h"

namespace stemfabric {
namespace {

TEST(Nccl, IsNewEnoughOrSaysWhatToDo) {
  try {
    const std::string version = nccl_version();
    EXPECT_EQ(version.substr(0, 2), "2.") << version;
    load_nccl();
  } catch (const DeviceError& error) {
    const std::string text = error.what();
    EXPECT_TRUE(text.find("-DSTEMFABRIC_NCCL=ON") != std::string::npos ||
                text.find("LD_LIBRARY_PATH") != std::string::npos)
        << text;
  }
}

#if SF_HAVE_NCCL
template <typename T>
void add_up_and_repeat(DeviceCollectives& devices, const ExecutionContext& ctx, T one, T two) {
  Tensor data({2}, kDTypeOf<T>, ctx.resource());
  const std::array<T, 2> values = {one, two};
  copy_from_host(ctx, data.view(), values.data());
  const auto sum = [&] {
    devices.begin("1");
    devices.all_reduce(data.view(), "values of step {}");
    devices.join();
  };
  int64_t place = devices.mark();
  sum();
  devices.wait(*ctx.stream().record(), place, "1");
  place = devices.mark();
  const auto graph = ctx.stream().capture(sum);
  for (int i = 0; i < 3; ++i) {
    graph->launch();
    devices.wait(*ctx.stream().record(), place, "1");
  }
  std::array<T, 2> back{};
  copy_to_host(ctx, back.data(), data.view());
  EXPECT_EQ(std::memcmp(back.data(), values.data(), sizeof back), 0) << dtype_name(kDTypeOf<T>);
}

TEST(Nccl, SumsOfOneRankOnAGpuAreItsValuesAlsoInAGraph) {
  if (const std::string reason = cuda_unavailable_reason(); !reason.empty()) {
    GTEST_SKIP() << "no GPU: " << reason;
  }
  try {
    load_nccl();
  } catch (const DeviceError& error) {
    GTEST_SKIP() << error.what();
  }
  const ExecutionContext ctx({.device = {DeviceKind::kCuda, 0}, .threads = 1});
  Collectives alone;
  DeviceCollectives devices(alone, ctx, load_nccl());
  add_up_and_repeat(devices, ctx, 1.5F, -2.0F);
  add_up_and_repeat(devices, ctx, 1.5, -2.0);
  add_up_and_repeat(devices, ctx, to_bf16(1.5F), to_bf16(-2.0F));
  devices.close();
}
#endif

}  // namespace
}  // namespace stemfabric
