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
  return {.what = fmt::format("{} multiply-adds of one core x {} threads",
                              HWY_DYNAMIC_DISPATCH(simd_name)(), threads),
          .flops_per_second = best_flops * threads,
          .bytes_per_second = best_bytes};
}

// Of a square product, on random data.
double product_flops_per_second(const ExecutionContext& ctx, ColdTimer& timer, int64_t size,
                                DType dtype) {
  const Tensor a = random_tensor(ctx, {size, size}, 1, -1, 1, dtype);
  const Tensor b = random_tensor(ctx, {size, size}, 2, -1, 1, dtype);
  Tensor c = output_tensor(ctx, {size, size}, dtype);
  double least = std::numeric_limits<double>::infinity();
  for (int repeat = 0; repeat < 10; ++repeat) {
    least = std::min(least, timer.seconds_of([&] {
      linear_forward(ctx, {.x = a.view(), .kernel = b.view(), .y = c.view()});
    }));
  }
  return 2.0 * static_cast<double>(size * size * size) / least;
}

MachinePeak measure_gpu_peak(const ExecutionContext& ctx) {
  constexpr int64_t kSize = 4096;
  constexpr int64_t kBf16Size = 8192;
  constexpr std::size_t kBytes = std::size_t{1} << 30;
  const Buffer from(ctx.resource(), kBytes, "copy benchmark");
  const Buffer to(ctx.resource(), kBytes, "copy benchmark");
  ctx.stream().fill(from.data(), 1, kBytes);
  ColdTimer timer(ctx);
  double copy = std::numeric_limits<double>::infinity();
  for (int repeat = 0; repeat < 10; ++repeat) {
    copy = std::min(copy,
                    timer.seconds_of([&] { ctx.stream().copy(to.data(), from.data(), kBytes); }));
  }
  return {.what = fmt::format("a float32 product of size {}", kSize),
          .flops_per_second = product_flops_per_second(ctx, timer, kSize, DType::kF32),
          .bytes_per_second = 2.0 * static_cast<double>(kBytes) / copy,
          .what_bf16 = fmt::format("a bf16 product of size {}", kBf16Size),
          .bf16_flops_per_second = product_flops_per_second(ctx, timer, kBf16Size, DType::kBF16)};
}

}  // namespace

double MachinePeak::floor_seconds(DType factors, double flops, double bytes) const {
  const double peak = factors == DType::kF32    ? flops_per_second
                      : factors == DType::kBF16 ? bf16_flops_per_second
                                                : 0;
  const double memory = bytes / bytes_per_second;
  return peak > 0 ? std::max(flops / peak, memory) : memory;
}

MachinePeak measure_machine_peak(const ExecutionContext& ctx) {
  return ctx.is_cpu() ? measure_cpu_peak(ctx) : measure_gpu_peak(ctx);
}

}  // namespace stemfabric::benchmarks
#endif  // HWY_ONCE
