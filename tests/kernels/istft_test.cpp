#include "kernels/istft/istft.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/stft/stft.h"
#include "tests/oracles/stft_cases.h"
#include "tests/oracles/stft_oracle.h"
#include "tests/support/op_harness.h"
#include "tests/support/simd_levels.h"

namespace stemfabric::test {
namespace {

std::vector<StftCase> invertible_cases() {
  auto cases = stft_test_cases();
  std::erase_if(cases, [](const StftCase& c) { return c.hop_length > c.n_fft / 4; });
  cases.push_back({"n512_three_channels_strided", 2, 3, 1000, 512, 64, true});
  cases.push_back({"n4096_shortest", 1, 2, 2049, 4096, 1024});
  return cases;
}

struct Problem {
  explicit Problem(const StftCase& c)
      : spectra(GuardedTensor::random({c.b, c.c, c.frames(), c.bins(), 2}, 1, -1, 1,
                                      c.strided ? Layout{.order = {1, 2, 0, 3, 4}} : Layout{})),
        signal({c.b, c.c, c.samples}, DType::kF32,
               c.strided ? Layout{.order = {1, 0, 2}, .row_gap = 3} : Layout{}) {}
  IstftArgs args(const StftCase& c) {
    return {.spectra = spectra.view(),
            .n_fft = c.n_fft,
            .hop_length = c.hop_length,
            .signal = signal.view()};
  }
  GuardedTensor spectra, signal;
};

class IstftTest : public testing::TestWithParam<StftCase> {};
INSTANTIATE_TEST_SUITE_P(Cases, IstftTest, testing::ValuesIn(invertible_cases()),
                         [](const auto& test) { return test.param.name; });

TEST_P(IstftTest, FollowsTheFormula) {
  const StftCase& c = GetParam();
  const StftInput input = {.channels = c.b * c.c,
                           .samples = c.samples,
                           .n_fft = c.n_fft,
                           .hop_length = c.hop_length,
                           .signal = {},
                           .spectra = Problem(c).spectra.values()};
  const auto oracle = istft_oracle<double>(input);
  const auto naive = istft_oracle<float>(input);
  for_each_simd_level([&] {
    Problem p(c);
    run_repeatably({&p.signal}, [&](const ExecutionContext& ctx) { istft(ctx, p.args(c)); });
    expect_within_bound("signal", p.signal.values(), naive, oracle);
  });
}

// Samples between −1 and 1 come back within 1e-6, the ends too.
TEST_P(IstftTest, ReconstructsTheSignal) {
  const StftCase& c = GetParam();
  for_each_simd_level([&] {
    Problem p(c);
    const GuardedTensor x = GuardedTensor::random({c.b, c.c, c.samples}, 2);
    stft(test_context(), {.signal = x.view(),
                          .n_fft = c.n_fft,
                          .hop_length = c.hop_length,
                          .spectra = p.spectra.view()});
    istft(test_context(), p.args(c));
    const auto before = x.values();
    const auto after = p.signal.values();
    double error = 0;
    for (std::size_t i = 0; i < before.size(); ++i) {
      ASSERT_TRUE(std::isfinite(after[i]));
      error = std::max(error, std::abs(after[i] - before[i]));
    }
    EXPECT_LE(error, 1e-6);
  });
}

TEST(Istft, ImaginaryPartsOfTheRealBinsAreNotRead) {
  const StftCase c = {"", 1, 2, 1000, 512, 128};
  Problem clean(c);
  Problem spoiled(c);
  for (int64_t row = 0; row < 2 * c.frames(); ++row) {
    spoiled.spectra.set(row * 2 * c.bins() + 1, kNaN);
    spoiled.spectra.set((row + 1) * 2 * c.bins() - 1, kInf);
  }
  istft(test_context(), clean.args(c));
  istft(test_context(), spoiled.args(c));
  EXPECT_EQ(spoiled.signal.values(), clean.signal.values());
}

TEST(Istft, NanReachesTheSamplesOfItsFrameOnly) {
  const StftCase c = {"", 1, 4, 2000, 512, 128};
  Problem p(c);
  constexpr int64_t kFrame = 5;
  p.spectra.set((kFrame * c.bins() + 100) * 2, kNaN);
  istft(test_context(), p.args(c));
  expect_non_finite_exactly("signal", p.signal.values(), [&](int64_t i) {
    const int64_t in_frame = i % c.samples - kFrame * c.hop_length + c.n_fft / 2;
    return i / c.samples < 2 && in_frame >= 0 && in_frame < c.n_fft;
  });
}

TEST(Istft, RefusesWhatItCannotInvert) {
  const StftCase half = {"", 1, 2, 1000, 512, 256};
  Problem p(half);
  expect_contract_error({"istft", "hop_length is 256", "128"},
                        [&] { istft(test_context(), p.args(half)); });
  const StftCase good = {"", 1, 2, 1000, 512, 128};
  Problem q(good);
  IstftArgs args = q.args(good);
  args.spectra = args.spectra.slice(2, 0, 3);
  expect_contract_error({"istft", "spectra", "[1, 2, 8, 257, 2]"},
                        [&] { istft(test_context(), args); });
}

}  // namespace
}  // namespace stemfabric::test
