// The short-time Fourier transform and its inverse.
#include "kernels/stft/stft.h"

#include <fmt/core.h>

#include <memory>

#include "benchmarks/support/kernel_benchmark.h"
#include "benchmarks/support/random_tensor.h"
#include "kernels/istft/istft.h"
#include "tests/oracles/stft_cases.h"
#include "tests/oracles/stft_oracle.h"

namespace stemfabric::benchmarks {
namespace {

using test::StftCase;

struct Data {
  // The inverse's spectra are noise too: no signal has them, but the work is the same.
  Data(const ExecutionContext& ctx, const StftCase& c, bool inverse)
      : signal(inverse ? output_tensor(ctx, {c.b, c.c, c.samples})
                       : random_tensor(ctx, {c.b, c.c, c.samples}, 1)),
        spectra(inverse ? random_tensor(ctx, {c.b, c.c, c.frames(), c.bins(), 2}, 1)
                        : output_tensor(ctx, {c.b, c.c, c.frames(), c.bins(), 2})) {}
  Tensor signal, spectra;
};

void run_once(const ExecutionContext& ctx, const StftCase& c, Data& data, bool inverse) {
  if (inverse) {
    istft(ctx, {.spectra = data.spectra.view(),
                .n_fft = c.n_fft,
                .hop_length = c.hop_length,
                .signal = data.signal.view()});
  } else {
    stft(ctx, {.signal = data.signal.view(),
               .n_fft = c.n_fft,
               .hop_length = c.hop_length,
               .spectra = data.spectra.view()});
  }
}

// The same transform of a signal that the oracle is not long about.
void verify(const ExecutionContext& ctx, StftCase c, bool inverse) {
  c.b = 1;
  c.samples = 20 * c.hop_length;
  Data data(ctx, c, inverse);
  run_once(ctx, c, data, inverse);
  test::StftInput input = {.channels = c.c,
                           .samples = c.samples,
                           .n_fft = c.n_fft,
                           .hop_length = c.hop_length,
                           .signal = {},
                           .spectra = {}};
  constexpr auto kQuick = test::Transform::kRecursion;
  if (inverse) {
    input.spectra = values_of(ctx, data.spectra);
    require_within_bound("istft", values_of(ctx, data.signal),
                         test::istft_oracle<float>(input, kQuick),
                         test::istft_oracle<double>(input, kQuick));
  } else {
    input.signal = values_of(ctx, data.signal);
    require_within_bound("stft", values_of(ctx, data.spectra),
                         test::stft_oracle<float>(input, kQuick),
                         test::stft_oracle<double>(input, kQuick));
  }
}

std::function<void()> prepare(const ExecutionContext& ctx, const StftCase& c, bool inverse) {
  verify(ctx, c, inverse);
  auto data = std::make_shared<Data>(ctx, c, inverse);
  return [&ctx, c, data, inverse] { run_once(ctx, c, *data, inverse); };
}

bool register_cases(const std::vector<StftCase>& cases, RunsOn on) {
  for (const StftCase& c : cases) {
    for (const bool inverse : {false, true}) {
      register_kernel(
          {.name = fmt::format("{}/{}/stemfabric", inverse ? "istft" : "stft", c.name),
           .on = on,
           .bytes = static_cast<double>(c.bytes()),
           .prepare = [c, inverse](const auto& ctx) { return prepare(ctx, c, inverse); }});
    }
  }
  return true;
}
const bool kRegistered = register_cases(test::stft_benchmark_cases(), RunsOn::kCpu) &&
                         register_cases(test::stft_gpu_benchmark_cases(), RunsOn::kGpu);

}  // namespace
}  // namespace stemfabric::benchmarks
