// The executor itself: that right kernels run right, and that wrong ones are noticed.
#include "kernels/simt/executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <numeric>

#include "kernels/common/block_reduce.cuh"
#include "runtime/core/check.h"
#include "tests/support/op_harness.h"

namespace stemfabric::test {
namespace {

constexpr int kThreads = 96;

struct ReverseStorage {
  float value[kThreads];
};

// Each block turns its kThreads numbers round. `barrier`: as it must be, or left out.
__global__ void reverse_kernel(float* x, bool barrier) {
  auto& shared = shared_storage<ReverseStorage>();
  float* mine = x + blockIdx.x * kThreads;
  shared.value[threadIdx.x] = mine[threadIdx.x];
  if (barrier) {
    __syncthreads();
  }
  mine[threadIdx.x] = shared.value[kThreads - 1 - threadIdx.x];
}

__global__ void sum_kernel(const float* x, float* sums) {
  auto& sum = shared_storage<BlockSum<kThreads, float>>();
  const float total = sum(x[blockIdx.x * kThreads + threadIdx.x]);
  if (threadIdx.x == 0) {
    sums[blockIdx.x] = total;
  }
}

__global__ void half_barrier_kernel() {
  if (threadIdx.x < 40) {
    __syncthreads();
  } else {
    __syncwarp(threadIdx.x < 64 ? 0xFFFFFFFFu : kFullWarp);
  }
}

__global__ void two_barriers_kernel() {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void absent_lane_kernel(float* x) {
  if (threadIdx.x % 32 < 16) {
    x[threadIdx.x] = __shfl_sync(0xFFFFu, x[threadIdx.x], 20);
  }
}

__global__ void ended_lane_kernel(float* x) {
  if (threadIdx.x % 32 == 31) {
    return;
  }
  x[threadIdx.x] = __shfl_xor_sync(kFullWarp, x[threadIdx.x], 1);
}

std::vector<float> counting() {
  std::vector<float> x(2 * kThreads);
  std::iota(x.begin(), x.end(), 0.0f);
  return x;
}

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const InternalError& error) {
    return error.what();
  }
  return "no error";
}

LaunchConfig config_of(const char* name, unsigned blocks = 1) {
  return {.kernel = name, .grid = blocks, .block = kThreads};
}

// Launches, and waits for the kernel.
template <typename... Parameters>
void run_kernel(const ExecutionContext& ctx, const LaunchConfig& config,
                void (*kernel)(Parameters...), std::type_identity_t<Parameters>... arguments) {
  launch(ctx, config, kernel, arguments...);
  ctx.stream().synchronize();
}

TEST(SimtExecutor, RunsEveryThreadOfEveryBlock) {
  for (int variant : {1, 2, 3}) {
    std::vector<float> x = counting();
    run_kernel(test_context(variant), config_of("reverse", 2), reverse_kernel, x.data(), true);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const std::size_t block = i / kThreads;
      EXPECT_EQ(x[i], static_cast<float>(block * kThreads + (kThreads - 1 - i % kThreads)));
    }
  }
}

#if defined(__SANITIZE_THREAD__)
constexpr bool kRacesAreReported = true;  // and fail the program
#else
constexpr bool kRacesAreReported = false;
#endif

TEST(SimtExecutor, AMissingBarrierChangesTheResult) {
  if (kRacesAreReported) {
    GTEST_SKIP() << "ThreadSanitizer reports the race that this test makes";
  }
  for (int variant : {1, 2, 3}) {
    std::vector<float> right = counting(), wrong = counting();
    run_kernel(test_context(variant), config_of("reverse"), reverse_kernel, right.data(), true);
    run_kernel(test_context(variant), config_of("reverse"), reverse_kernel, wrong.data(), false);
    EXPECT_NE(right, wrong) << "schedule " << variant;
  }
}

TEST(SimtExecutorDeathTest, ThreadSanitizerReportsAMissingBarrier) {
  if (!kRacesAreReported) {
    GTEST_SKIP() << "a build with ThreadSanitizer only";
  }
  const auto run = [](bool barrier) {
    std::vector<float> x = counting();
    run_kernel(test_context(), config_of("reverse"), reverse_kernel, x.data(), barrier);
    std::exit(0);  // 66 after a report
  };
  EXPECT_EXIT(run(true), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(run(false), testing::ExitedWithCode(66), "data race");
}

TEST(SimtExecutor, InjectedFaultsChangeTheResult) {
  if (kRacesAreReported) {
    GTEST_SKIP() << "ThreadSanitizer reports the race that this test makes";
  }
  const auto sums = [] {
    std::vector<float> x = counting();
    for (float& value : x) {
      value *= value;
    }
    std::vector<float> result(2);
    run_kernel(test_context(1), config_of("sum", 2), sum_kernel, x.data(), result.data());
    return result;
  };
  simt::take_sites();
  const std::vector<float> right = sums();
  EXPECT_THAT(right, testing::ElementsAre(290320, 2050576));
  const simt::Sites sites = simt::take_sites();
  ASSERT_EQ(sites.block_barriers.size(), 2U);
  ASSERT_EQ(sites.shuffles.size(), 1U);
  simt::set_fault({simt::Fault::Kind::kDropBlockBarrier, sites.block_barriers[1]});
  EXPECT_NE(sums(), right);
  simt::set_fault({simt::Fault::Kind::kWrongLane, sites.shuffles[0]});
  EXPECT_NE(sums(), right);
  simt::set_fault({});
  EXPECT_EQ(sums(), right);
}

TEST(SimtExecutor, ThreadsThatWaitForEverAreNamed) {
  const std::string text =
      error_of([] { run_kernel(test_context(), config_of("half_barrier"), half_barrier_kernel); });
  EXPECT_THAT(text, testing::HasSubstr("half_barrier"));
  EXPECT_THAT(text, testing::HasSubstr("executor_test.cpp"));
}

TEST(SimtExecutor, DifferentBarriersAreAnError) {
  const std::string text =
      error_of([] { run_kernel(test_context(), config_of("two_barriers"), two_barriers_kernel); });
  EXPECT_THAT(text, testing::HasSubstr("thread 0 is at the barrier executor_test.cpp"));
}

TEST(SimtExecutor, LanesThatTakeNoPartAreAnError) {
  std::vector<float> x = counting();
  EXPECT_THAT(error_of([&] {
                run_kernel(test_context(), config_of("absent_lane"), absent_lane_kernel, x.data());
              }),
              testing::HasSubstr("lane 20 is read"));
  EXPECT_THAT(error_of([&] {
                run_kernel(test_context(), config_of("ended_lane"), ended_lane_kernel, x.data());
              }),
              testing::HasSubstr("threads wait for ever"));
}

TEST(SimtExecutor, AnErrorIsThrownWhereTheKernelIsWaitedForAndDropsWhatCameAfter) {
  const ExecutionContext& ctx = test_context();
  std::vector<float> x = counting();
  launch(ctx, config_of("two_barriers"), two_barriers_kernel);
  launch(ctx, config_of("reverse", 2), reverse_kernel, x.data(), true);
  EXPECT_THAT(error_of([&] { ctx.stream().synchronize(); }), testing::HasSubstr("two_barriers"));
  ctx.stream().synchronize();
  EXPECT_EQ(x, counting());
  // The same where memory is given back before anybody waits.
  launch(ctx, config_of("two_barriers"), two_barriers_kernel);
  free_test_memory(allocate_test_memory(1));
  launch(ctx, config_of("reverse", 2), reverse_kernel, x.data(), true);
  EXPECT_THAT(error_of([&] { ctx.stream().synchronize(); }), testing::HasSubstr("two_barriers"));
  ctx.stream().synchronize();
  EXPECT_EQ(x, counting());
}

TEST(SimtExecutor, GoesOnAfterAnError) {
  error_of([] { run_kernel(test_context(), config_of("two_barriers"), two_barriers_kernel); });
  std::vector<float> x = counting();
  run_kernel(test_context(), config_of("reverse", 2), reverse_kernel, x.data(), true);
  EXPECT_EQ(x[0], kThreads - 1);
}

}  // namespace
}  // namespace stemfabric::test
