// The features of audio.
#include "kernels/stft_features/stft_features.h"

#include <fmt/core.h>

#include <memory>

#include "benchmarks/support/kernel_benchmark.h"
#include "benchmarks/support/random_tensor.h"
#include "tests/oracles/stft_features_cases.h"
#include "tests/oracles/stft_features_oracle.h"

namespace stemfabric::benchmarks {
namespace {

using test::FeaturesCase;

struct Data {
  Data(const ExecutionContext& ctx, const FeaturesCase& c)
      : signal(random_tensor(ctx, {c.b, 2, c.samples}, 1)),
        features(output_tensor(ctx, {c.b, c.frames(), kAudioFeatures})) {}
  Tensor signal, features;
};

void run_once(const ExecutionContext& ctx, const FeaturesCase& c, Data& data) {
  stft_features(ctx, {.signal = data.signal.view(),
                      .sample_rate = c.sample_rate,
                      .n_fft = c.n_fft,
                      .hop_length = c.hop_length,
                      .features = data.features.view()});
}

// The same transform of a signal that the oracle is not long about.
void verify(const ExecutionContext& ctx, FeaturesCase c) {
  c.b = 1;
  c.samples = 20 * c.hop_length;
  Data data(ctx, c);
  run_once(ctx, c, data);
  const test::StftInput input = {.channels = 2,
                                 .samples = c.samples,
                                 .n_fft = c.n_fft,
                                 .hop_length = c.hop_length,
                                 .signal = values_of(ctx, data.signal),
                                 .spectra = {}};
  const auto rate = static_cast<double>(c.sample_rate);
  require_within_bound("stft_features", values_of(ctx, data.features),
                       test::stft_features_oracle<float>(input, rate),
                       test::stft_features_oracle<double>(input, rate));
}

std::function<void()> prepare(const ExecutionContext& ctx, const FeaturesCase& c) {
  verify(ctx, c);
  auto data = std::make_shared<Data>(ctx, c);
  return [&ctx, c, data] { run_once(ctx, c, *data); };
}

bool register_cases(const std::vector<FeaturesCase>& cases, RunsOn on) {
  for (const FeaturesCase& c : cases) {
    const auto floats = static_cast<double>(c.b * (2 * c.samples + c.frames() * kAudioFeatures));
    register_kernel({.name = fmt::format("stft_features/{}/stemfabric", c.name),
                     .on = on,
                     .bytes = 4 * floats,
                     .prepare = [c](const auto& ctx) { return prepare(ctx, c); }});
  }
  return true;
}
const bool kRegistered = register_cases(test::features_benchmark_cases(), RunsOn::kCpu) &&
                         register_cases(test::features_gpu_benchmark_cases(), RunsOn::kGpu);

}  // namespace
}  // namespace stemfabric::benchmarks
