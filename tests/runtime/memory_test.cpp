#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "runtime/device/execution_context.h"
#include "runtime/memory/arena.h"
#include "runtime/memory/tracking_resource.h"

namespace stemfabric {
namespace {

TEST(TrackingResource, CountsPeakAndNamesWhatIsLive) {
  TrackingResource tracking(host_resource());
  {
    Buffer a(tracking, 1000, "first");
    Buffer b(tracking, 500, "second");
    EXPECT_EQ(tracking.statistics().current_bytes, 1500);
    EXPECT_NE(tracking.live_report().find("first: 1 blocks, 1000 bytes"), std::string::npos);
  }
  EXPECT_EQ(tracking.statistics().current_bytes, 0);
  EXPECT_EQ(tracking.statistics().peak_bytes, 1500);
  EXPECT_EQ(tracking.statistics().live, 0);
  EXPECT_EQ(tracking.live_report(), "");
}

TEST(TrackingResource, RefusesBeyondItsLimitAndSaysWhoAsked) {
  TrackingResource tracking(host_resource(), 1024);
  Buffer a(tracking, 1000, "activations");
  try {
    Buffer b(tracking, 100, "moments");
    FAIL() << "no exception";
  } catch (const OutOfMemoryError& error) {
    EXPECT_NE(std::string(error.what()).find("moments asked for 100 bytes"), std::string::npos);
  }
}

TEST(Tensor, IsAlignedAndChecksItsDtype) {
  Tensor tensor({3, 5}, DType::kF32);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.view().data()) % kAlignment, 0u);
  EXPECT_THROW(tensor.as<double>(), InternalError);
}

TEST(TensorView, SliceAndReshape) {
  std::vector<float> data(24);
  TensorView view(data.data(), {4, 6});
  const TensorView part = view.slice(1, 2, 3);
  EXPECT_EQ(part.as<float>(), data.data() + 2);
  EXPECT_EQ(part.stride(0), 6);
  EXPECT_FALSE(part.contiguous());
  EXPECT_THROW(part.reshape({12}), InternalError);
  EXPECT_EQ(view.reshape({2, 12}).dim(1), 12);
  EXPECT_THROW(view.slice(0, 3, 2), InternalError);
}

// Any plan: no two tensors that live at the same time overlap, and the block is not larger than
// without sharing nor smaller than the most that lives at one step.
TEST(Arena, TensorsAliveTogetherNeverOverlap) {
  uint32_t state = 7;
  const auto next = [&](uint32_t n) {
    return (state = state * 1664525u + 1013904223u) / 65536u % n;
  };
  for (int round = 0; round < 50; ++round) {
    struct Item {
      ArenaPlan::Id id;
      int first, last;
      std::size_t bytes;
    };
    ArenaPlan plan;
    std::vector<Item> items;
    for (int i = 0; i < 40; ++i) {
      const int first = static_cast<int>(next(30));
      const int last = first + static_cast<int>(next(10));
      const auto n = static_cast<int64_t>(1 + next(1000));
      items.push_back({plan.add("t", {n}, DType::kF32, first, last), first, last,
                       static_cast<std::size_t>(n) * 4});
    }
    plan.finish();
    EXPECT_LE(plan.bytes(), plan.unshared_bytes());
    EXPECT_GE(plan.bytes(), plan.lower_bound_bytes());
    for (const Item& a : items) {
      EXPECT_EQ(plan.offset(a.id) % kAlignment, 0u);
      EXPECT_LE(plan.offset(a.id) + a.bytes, plan.bytes());
      for (const Item& b : items) {
        if (a.id < b.id && a.first <= b.last && b.first <= a.last) {
          EXPECT_TRUE(plan.offset(a.id) + a.bytes <= plan.offset(b.id) ||
                      plan.offset(b.id) + b.bytes <= plan.offset(a.id));
        }
      }
    }
  }
}

TEST(Workspace, ReusesItsMemoryAndKeepsOuterBlocks) {
  TrackingResource tracking(host_resource());
  Workspace workspace(tracking);
  for (int round = 0; round < 3; ++round) {
    WorkspaceScope outer(workspace);
    float* a = outer.take<float>(1000);
    a[999] = 5;
    for (int i = 0; i < 4; ++i) {
      WorkspaceScope inner(workspace);
      float* b = inner.take<float>(1 << 16);
      b[0] = 1;
      b[(1 << 16) - 1] = 1;
      EXPECT_NE(a, b);
    }
    EXPECT_EQ(a[999], 5);
  }
  const auto before = tracking.statistics().allocations;
  {
    WorkspaceScope scope(workspace);
    scope.take<float>(1000);
    scope.take<float>(1 << 16);
  }
  EXPECT_EQ(tracking.statistics().allocations, before);
}

TEST(Workspace, HoldsWhatTheLargestCallNeeded) {
  constexpr int64_t kMiB = int64_t{1} << 20;
  TrackingResource tracking(host_resource());
  Workspace workspace(tracking);
  const auto call = [&](std::initializer_list<int64_t> sizes) {
    const WorkspaceScope outer(workspace);  // takes nothing itself
    WorkspaceScope scope(workspace);
    for (const int64_t size : sizes) {
      scope.take<std::byte>(size);
    }
  };
  call({90 * kMiB});
  call({100 * kMiB, 1});  // a first block that is too small, then something small after a large one
  EXPECT_LE(tracking.statistics().peak_bytes, (190 + 64) * kMiB);
  call({1});
  EXPECT_EQ(workspace.capacity(), static_cast<std::size_t>(100 * kMiB + 64));
  const auto before = tracking.statistics().allocations;
  const auto generation = workspace.generation();
  call({1, 100 * kMiB});
  EXPECT_EQ(tracking.statistics().allocations, before);
  EXPECT_EQ(workspace.generation(), generation);
}

TEST(ThreadPool, RunsEveryTaskOnce) {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (int round = 0; round < 200; ++round) {
      std::vector<int> hits(100, 0);
      pool.run(100, [&](int64_t task) { ++hits[static_cast<std::size_t>(task)]; });
      EXPECT_EQ(hits, std::vector<int>(100, 1));
    }
  }
}

TEST(ThreadPool, HandsTheFirstExceptionToTheCaller) {
  ThreadPool pool(2);
  EXPECT_THROW(pool.run(10, [](int64_t task) { SF_CHECK(task != 3, "task three"); }),
               InternalError);
  int done = 0;
  pool.run(1, [&](int64_t) { ++done; });
  EXPECT_EQ(done, 1);
}

TEST(ExecutionContext, CpuStreamIsIdleAndItsEventsAreOrdered) {
  const ExecutionContext ctx;
  EXPECT_TRUE(ctx.is_cpu());
  const auto start = ctx.stream().record();
  ctx.stream().synchronize();
  EXPECT_GE(ctx.stream().record()->seconds_since(*start), 0.0);
}

TEST(ExecutionContext, AGpuThatIsNotThereIsADeviceErrorThatSaysWhy) {
  if (cuda_unavailable_reason().empty()) {
    GTEST_SKIP() << "this machine has a GPU";
  }
  try {
    ExecutionContext ctx({.device = {DeviceKind::kCuda, 0}});
    FAIL() << "no exception";
  } catch (const DeviceError& error) {
    EXPECT_NE(std::string(error.what()).find("device: cpu"), std::string::npos);
  }
}

}  // namespace
}  // namespace stemfabric
