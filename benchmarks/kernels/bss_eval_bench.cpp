// BSS-Eval v4 of whole tracks with 512 taps.
#include "kernels/bss_eval/bss_eval.h"

#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "benchmarks/support/kernel_benchmark.h"
#include "benchmarks/support/random_tensor.h"
#include "tests/oracles/bss_oracle.h"

namespace stemfabric::benchmarks {
namespace {

struct Case {
  int64_t sources, channels, samples, taps, window;

  double flops() const;
  double bytes() const;
};

int64_t blocks(int64_t samples, int64_t step) { return (samples + step - 1) / step; }

// As kernels/bss_eval/bss_eval_cuda.h counts them.
double Case::flops() const {
  constexpr double kTransform = 2.5 * 4096 * 12;
  constexpr double kProduct = 8.0 * 2049;
  const auto p = static_cast<double>(sources * channels);
  const double n = p * static_cast<double>(taps);
  const int64_t step = 4096 - taps + 1;
  const auto correlated = static_cast<double>(blocks(samples, step));
  const auto framed = static_cast<double>(bss_frame_count(samples, window, window) *
                                              blocks(window + taps - 1, step) +
                                          blocks(samples + taps - 1, step));
  return 3 * p * kTransform * (correlated + framed) + 2 * p * p * kProduct * correlated +
         p * (p + static_cast<double>(channels)) * kProduct * framed + 4 * p * n * n;
}

// Both signals for the correlations and again for the frames; the factor, written once and read
// twice.
double Case::bytes() const {
  const auto p = static_cast<double>(sources * channels);
  const double n = p * static_cast<double>(taps);
  return 4 * 4 * p * static_cast<double>(samples) + 12 * n * n;
}

// References of noise; estimates with their neighbour and noise in them.
struct Data {
  Data(const ExecutionContext& ctx, const Case& c)
      : shape_of_case(c),
        references(random_tensor(ctx, {c.sources, c.channels, c.samples}, 1)),
        estimates(leaky(ctx, c)),
        frames(zero_tensor(ctx, {4, c.sources, bss_frame_count(c.samples, c.window, c.window)},
                           DType::kF64)),
        whole(zero_tensor(ctx, {5, c.sources}, DType::kF64)) {}
  Tensor leaky(const ExecutionContext& ctx, const Case& c) const {
    std::vector<double> values = values_of(ctx, references);
    const std::vector<double> noise =
        values_of(ctx, random_tensor(ctx, {c.sources, c.channels, c.samples}, 2));
    const std::vector<double> own = values;
    const auto size = static_cast<std::size_t>(c.channels * c.samples);
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = 0.8 * own[i] + 0.3 * own[(i + size) % own.size()] + 0.2 * noise[i];
    }
    return tensor_of(ctx, {c.sources, c.channels, c.samples}, values);
  }
  void run(const ExecutionContext& ctx) {
    bss_eval(ctx, {.references = references.view(),
                   .estimates = estimates.view(),
                   .window = shape_of_case.window,
                   .hop = shape_of_case.window,
                   .taps = shape_of_case.taps,
                   .frames = frames.view(),
                   .whole = whole.view()});
  }

  Case shape_of_case;
  Tensor references, estimates, frames, whole;
};

// Decibels, in float64: the bound of tests/kernels/bss_eval_test.cpp.
constexpr test::Floor kFloor = {.ulps = 0, .absolute = 1e-8};

// Least squares of a short signal: one of 512 taps is beyond the oracle.
void verify(const ExecutionContext& ctx) {
  const Case c = {2, 2, 600, 8, 600};
  Data data(ctx, c);
  data.run(ctx);
  const std::vector<double> oracle =
      test::bss_oracle({c.sources, c.channels, c.samples, c.taps, values_of(ctx, data.references),
                        values_of(ctx, data.estimates)},
                       0, c.samples);
  require_within_bound("a short signal", values_of(ctx, data.whole), oracle, oracle, kFloor);
}

std::function<void()> prepare(const ExecutionContext& ctx, const Case& c) {
  verify_once("bss_eval", [&] { verify(ctx); });
  auto data = std::make_shared<Data>(ctx, c);
  data->run(ctx);
  if (!ctx.is_cpu()) {
    const ExecutionContext cpu;
    Data same(cpu, c);
    same.run(cpu);
    for (Tensor Data::*scores : {&Data::frames, &Data::whole}) {
      const std::vector<double> expected = values_of(cpu, same.*scores);
      require_within_bound("the CPU's scores", values_of(ctx, (*data).*scores), expected, expected,
                           kFloor);
    }
  }
  return [&ctx, data] { data->run(ctx); };
}

bool register_all() {
  constexpr int64_t kRate = 44100;
  for (const auto& [name, on, seconds] :
       {std::tuple{"4x2x10s", RunsOn::kAny, 10}, {"4x2x180s", RunsOn::kGpu, 180}}) {
    const Case c = {4, 2, seconds * kRate, kBssTaps, kRate};
    register_kernel({.name = std::string("bss_eval/") + name + "/stemfabric",
                     .on = on,
                     .flops = c.flops(),
                     .factors = DType::kF64,
                     .bytes = c.bytes(),
                     .prepare = [c](const auto& ctx) { return prepare(ctx, c); }});
  }
  return true;
}
const bool kRegistered = register_all();

}  // namespace
}  // namespace stemfabric::benchmarks
