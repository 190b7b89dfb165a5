#include "kernels/stft/stft.h"

#include <gtest/gtest.h>

#include "runtime/io/npy.h"
#include "tests/oracles/stft_cases.h"
#include "tests/oracles/stft_oracle.h"
#include "tests/support/op_harness.h"
#include "tests/support/paths.h"
#include "tests/support/simd_levels.h"

namespace stemfabric::test {
namespace {

struct Problem {
  explicit Problem(const StftCase& c)
      : signal(
            GuardedTensor::random({c.b, c.c, c.samples}, 1, -1, 1,
                                  c.strided ? Layout{.order = {1, 0, 2}, .row_gap = 3} : Layout{})),
        spectra({c.b, c.c, c.frames(), c.bins(), 2}, DType::kF32,
                c.strided ? Layout{.order = {1, 2, 0, 3, 4}} : Layout{}) {}
  StftInput input(const StftCase& c) const {
    return {.channels = c.b * c.c,
            .samples = c.samples,
            .n_fft = c.n_fft,
            .hop_length = c.hop_length,
            .signal = signal.values(),
            .spectra = {}};
  }
  StftArgs args(const StftCase& c) {
    return {.signal = signal.view(),
            .n_fft = c.n_fft,
            .hop_length = c.hop_length,
            .spectra = spectra.view()};
  }
  GuardedTensor signal, spectra;
};

class StftTest : public testing::TestWithParam<StftCase> {};
INSTANTIATE_TEST_SUITE_P(Cases, StftTest, testing::ValuesIn(stft_test_cases()),
                         [](const auto& test) { return test.param.name; });

TEST_P(StftTest, FollowsTheFormula) {
  const StftCase& c = GetParam();
  const StftInput input = Problem(c).input(c);
  const auto oracle = stft_oracle<double>(input);
  const auto naive = stft_oracle<float>(input);
  for_each_simd_level([&] {
    Problem p(c);
    run_repeatably({&p.spectra}, [&](const ExecutionContext& ctx) { stft(ctx, p.args(c)); });
    expect_within_bound("spectra", p.spectra.values(), naive, oracle);
  });
}

// SciPy's values in float64, recorded: see tests/data/stft/README.md.
TEST(Stft, AgreesWithScipy) {
  struct Recorded {
    std::string name;
    int64_t n_fft, hop_length;
  };
  for (const Recorded& r : {Recorded{"n512_hop256", 512, 256},
                            {"n512_hop128", 512, 128},
                            {"n2048_hop1024", 2048, 1024}}) {
    const Tensor signal = read_npy(data_dir() / "stft" / (r.name + ".signal.npy"));
    const Tensor scipy = read_npy(data_dir() / "stft" / (r.name + ".spectra.npy"));
    GuardedTensor x(signal.shape(), DType::kF32);
    const auto* samples = signal.view().as<float>();
    x.assign(std::vector<double>(samples, samples + signal.elements()));
    GuardedTensor spectra(scipy.shape(), DType::kF32);
    stft(test_context(), {.signal = x.view(),
                          .n_fft = r.n_fft,
                          .hop_length = r.hop_length,
                          .spectra = spectra.view()});
    const StftInput input = {.channels = signal.shape()[1],
                             .samples = signal.shape()[2],
                             .n_fft = r.n_fft,
                             .hop_length = r.hop_length,
                             .signal = x.values(),
                             .spectra = {}};
    const auto* expected = scipy.view().as<double>();
    expect_within_bound(r.name, spectra.values(), stft_oracle<float>(input),
                        std::vector<double>(expected, expected + scipy.elements()));
  }
}

// A NaN reaches the frames that hold it, of the two channels that share a transform.
TEST(Stft, NanReachesItsFramesOnly) {
  const StftCase c = {"", 1, 4, 2000, 512, 128};
  Problem p(c);
  constexpr int64_t kSpoiled = 999;
  p.signal.set(c.samples + kSpoiled, kNaN);
  stft(test_context(), p.args(c));
  expect_non_finite_exactly("spectra", p.spectra.values(), [&](int64_t i) {
    const int64_t frame = i / (2 * c.bins());
    const int64_t begin = frame % c.frames() * c.hop_length - c.n_fft / 2;
    return frame / c.frames() < 2 && begin <= kSpoiled && kSpoiled < begin + c.n_fft;
  });
}

TEST(Stft, RefusesWhatItCannotTransform) {
  const StftCase good = {"", 1, 2, 1000, 512, 128};
  const auto refuses = [&](const std::vector<std::string>& parts, const auto& change) {
    Problem p(good);
    StftArgs args = p.args(good);
    change(args);
    expect_contract_error(parts, [&] { stft(test_context(), args); });
  };
  refuses({"stft", "n_fft is 256", "512 to 4096"}, [](StftArgs& a) { a.n_fft = 256; });
  refuses({"stft", "n_fft is 1000"}, [](StftArgs& a) { a.n_fft = 1000; });
  refuses({"stft", "hop_length is 100", "512"}, [](StftArgs& a) { a.hop_length = 100; });
  refuses({"stft", "hop_length is 0"}, [](StftArgs& a) { a.hop_length = 0; });
  refuses({"stft", "256 samples", "more than"},
          [](StftArgs& a) { a.signal = a.signal.slice(2, 0, 256); });
  refuses({"stft", "spectra", "[1, 2, 8, 257, 2]"},
          [](StftArgs& a) { a.signal = a.signal.slice(2, 0, 800); });
}

}  // namespace
}  // namespace stemfabric::test
