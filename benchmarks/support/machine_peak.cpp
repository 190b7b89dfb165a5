#include "benchmarks/support/machine_peak.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <limits>
#include <vector>

#include "benchmarks/support/cold_timer.h"
#include "benchmarks/support/random_tensor.h"
#include "kernels/linear/linear.h"
#include "runtime/core/check.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "benchmarks/support/machine_peak.cpp"  // once for each target
#include <hwy/foreach_target.h>
// After foreach_target.h:
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace stemfabric::benchmarks {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// `rounds` of 12 independent multiply-adds: enough to hide their latency, few enough for 16
// registers. Returns the operations done; *sink keeps the compiler honest.
double multiply_adds(int64_t rounds, float* sink) {
  const hn::ScalableTag<float> d;
  constexpr int kChains = 12;
  hn::Vec<decltype(d)> x[kChains];
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) {
    x[i] = hn::Set(d, 1.0f + static_cast<float>(i) * *sink);
  }
  const auto factor = hn::Set(d, 1.0f - *sink);
  const auto term = hn::Set(d, *sink);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) {
      x[i] = hn::MulAdd(x[i], factor, term);
    }
  }
  auto sum = hn::Zero(d);
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) {
    sum = hn::Add(sum, x[i]);
  }
  *sink = hn::GetLane(hn::SumOfLanes(d, sum));
  return 2.0 * kChains * static_cast<double>(hn::Lanes(d)) * static_cast<double>(rounds);
}

const char* simd_name() { return hwy::TargetName(HWY_TARGET); }

}  // namespace HWY_NAMESPACE
}  // namespace stemfabric::benchmarks
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stemfabric::benchmarks {
namespace {

HWY_EXPORT(multiply_adds);
HWY_EXPORT(simd_name);

double seconds_of(const std::function<void()>& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

MachinePeak measure_cpu_peak(const ExecutionContext& ctx) {
  const int threads = ctx.threads().threads();
  double best_flops = 0;
  for (int repeat = 0; repeat < 40; ++repeat) {
    float sink = 0;
    double flops = 0;
    const double seconds =
        seconds_of([&] { flops = HWY_DYNAMIC_DISPATCH(multiply_adds)(200000, &sink); });
    best_flops = std::max(best_flops, flops / seconds);
  }
  // Each task copies its own part of 256 MiB to its own part of another 256 MiB.
  constexpr std::size_t kBytes = std::size_t{256} << 20;
  std::vector<std::byte> from(kBytes, std::byte{1});
  std::vector<std::byte> to(kBytes, std::byte{2});
  double best_bytes = 0;
  for (int repeat = 0; repeat < 5; ++repeat) {
    const auto part = kBytes / static_cast<std::size_t>(threads);
    const double seconds = seconds_of([&] {
      ctx.threads().run(threads, [&](int64_t task) {
        const auto offset = static_cast<std::size_t>(task) * part;
        std::memcpy(to.data() + offset, from.data() + offset, part);
      });
    });
    best_bytes = std::max(best_bytes, 2.0 * static_cast<double>(kBytes) / seconds);
  }
  return {fmt::format("{} multiply-adds of one core x {} threads",
                      HWY_DYNAMIC_DISPATCH(simd_name)(), threads),
          best_flops * threads, best_bytes};
}

MachinePeak measure_gpu_peak(const ExecutionContext& ctx) {
  constexpr int64_t kSize = 4096;
  const Tensor a = random_tensor(ctx, {kSize, kSize}, 1);
  const Tensor b = random_tensor(ctx, {kSize, kSize}, 2);
  const Tensor bias = random_tensor(ctx, {kSize}, 3);
  Tensor c = output_tensor(ctx, {kSize, kSize});
  constexpr std::size_t kBytes = std::size_t{1} << 30;
  const Buffer from(ctx.resource(), kBytes, "copy benchmark");
  const Buffer to(ctx.resource(), kBytes, "copy benchmark");
  ctx.stream().fill(from.data(), 1, kBytes);
  ColdTimer timer(ctx);
  double product = std::numeric_limits<double>::infinity();
  double copy = std::numeric_limits<double>::infinity();
  for (int repeat = 0; repeat < 10; ++repeat) {
    product = std::min(product, timer.seconds_of([&] {
      linear_forward(ctx, {.x = a.view(), .kernel = b.view(), .bias = bias.view(), .y = c.view()});
    }));
    copy = std::min(copy,
                    timer.seconds_of([&] { ctx.stream().copy(to.data(), from.data(), kBytes); }));
  }
  return {fmt::format("a float32 product of size {}", kSize),
          2.0 * static_cast<double>(kSize * kSize * kSize) / product,
          2.0 * static_cast<double>(kBytes) / copy};
}

}  // namespace

double MachinePeak::floor_seconds(double flops, double bytes) const {
  return std::max(flops / flops_per_second, bytes / bytes_per_second);
}

MachinePeak measure_machine_peak(const ExecutionContext& ctx) {
  return ctx.is_cpu() ? measure_cpu_peak(ctx) : measure_gpu_peak(ctx);
}

}  // namespace stemfabric::benchmarks
#endif  // HWY_ONCE
