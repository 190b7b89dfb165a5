#include "benchmarks/support/machine_peak.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <limits>
#include <vector>

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

}  // namespace

MachinePeak measure_machine_peak(const ExecutionContext& ctx) {
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
  return {HWY_DYNAMIC_DISPATCH(simd_name)(), best_flops * threads, best_bytes};
}

}  // namespace stemfabric::benchmarks
#endif  // HWY_ONCE
