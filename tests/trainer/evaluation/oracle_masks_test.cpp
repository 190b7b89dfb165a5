#include "trainer/evaluation/oracle_masks.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <ostream>

#include "tests/oracles/oracle_masks_reference.h"
#include "tests/support/op_harness.h"

namespace stemfabric::test {
namespace {

struct OracleMaskCase {
  std::string name;
  OracleMask mask;
  int64_t channels, samples;
  bool remainder = false;  // the mixture holds more than the stems
};

void PrintTo(const OracleMaskCase& c, std::ostream* out) { *out << c.name; }

constexpr int64_t kStems = 3;
constexpr int64_t kSize = 512;
constexpr int64_t kHop = 128;

double uniform_gain(int64_t i) { return 0.2 + 0.1 * static_cast<double>(i % 7); }

// Stem 0: noise in both channels; stem 1: other noise, panned; stem 2: silent.
struct Problem {
  explicit Problem(const OracleMaskCase& c)
      : shape(c),
        mixture({c.channels, c.samples}, DType::kF32, {.order = {}, .row_gap = 5}),
        stems({kStems, c.channels, c.samples}, DType::kF32, {.order = {1, 0, 2}, .row_gap = 3}),
        estimates({kStems, c.channels, c.samples}, DType::kF32,
                  {.order = {1, 0, 2}, .row_gap = 1}) {
    const GuardedTensor noise = GuardedTensor::random({4, c.samples}, 7);
    const auto sample = [&](int64_t row, int64_t i) { return noise.get(row * c.samples + i); };
    for (int64_t ch = 0; ch < c.channels; ++ch) {
      for (int64_t i = 0; i < c.samples; ++i) {
        // Sounds that come and go, so that frames differ.
        const double both = sample(ch, i) * (i / 700 % 2 == 0 ? 1.0 : 0.1);
        const double panned = sample(2, i) * (ch == 0 ? 0.9 : 0.3) * uniform_gain(i / 900);
        set(0, ch, i, both);
        set(1, ch, i, panned);
        set(2, ch, i, 0);
        mixture.set(ch * c.samples + i, stems.get(index(0, ch, i)) + stems.get(index(1, ch, i)) +
                                            (c.remainder ? 0.3 * sample(3, i) : 0.0));
      }
    }
  }
  int64_t index(int64_t stem, int64_t channel, int64_t i) const {
    return (stem * shape.channels + channel) * shape.samples + i;
  }
  void set(int64_t stem, int64_t channel, int64_t i, double value) {
    stems.set(index(stem, channel, i), value);
  }
  OracleMaskArgs args() {
    return {.mask = shape.mask,
            .n_fft = kSize,
            .hop_length = kHop,
            .mixture = mixture.view(),
            .stems = stems.view(),
            .estimates = estimates.view()};
  }
  OracleMasksInput input() const {
    return {static_cast<ReferenceMask>(shape.mask),
            kStems,
            shape.channels,
            shape.samples,
            kSize,
            kHop,
            mixture.values(),
            stems.values()};
  }

  OracleMaskCase shape;
  GuardedTensor mixture, stems, estimates;
};

// One window and a bit; several blocks (32 windows each), of which the last is longer.
std::vector<OracleMaskCase> cases() {
  return {{"ratio", OracleMask::kRatio, 2, 2100},
          {"ratio_mono_short", OracleMask::kRatio, 1, 300},
          {"ratio_blocks", OracleMask::kRatio, 1, 33000, true},
          {"power", OracleMask::kPower, 2, 2100, true},
          {"wiener", OracleMask::kWiener, 2, 2100},
          {"wiener_mono", OracleMask::kWiener, 1, 1500},
          {"wiener_blocks", OracleMask::kWiener, 2, 33001, true}};
}

class OracleMaskTest : public testing::TestWithParam<OracleMaskCase> {};
INSTANTIATE_TEST_SUITE_P(Cases, OracleMaskTest, testing::ValuesIn(cases()),
                         [](const auto& test) { return test.param.name; });

TEST_P(OracleMaskTest, FollowsTheFormula) {
  Problem p(GetParam());
  run_repeatably({&p.estimates},
                 [&](const ExecutionContext& ctx) { separate_by_oracle_masks(ctx, p.args()); });
  expect_within_bound("estimates", p.estimates.values(), oracle_masks_reference<float>(p.input()),
                      oracle_masks_reference<double>(p.input()));
}

constexpr OracleMask kMasks[] = {OracleMask::kRatio, OracleMask::kPower, OracleMask::kWiener};

TEST(OracleMask, TheEstimatesAddUpToTheMixture) {
  for (const OracleMask mask : kMasks) {
    Problem p({"", mask, 2, 2100});
    separate_by_oracle_masks(test_context(), p.args());
    for (int64_t i = 0; i < p.mixture.elements(); ++i) {
      double sum = 0;
      for (int64_t s = 0; s < kStems; ++s) {
        sum += p.estimates.get(s * p.mixture.elements() + i);
      }
      ASSERT_NEAR(sum, p.mixture.get(i), 2e-6) << i;
    }
  }
}

TEST(OracleMask, ASilentStemStaysSilent) {
  for (const OracleMask mask : kMasks) {
    Problem p({"", mask, 2, 2100, true});
    separate_by_oracle_masks(test_context(), p.args());
    for (int64_t i = p.index(2, 0, 0); i < p.estimates.elements(); ++i) {
      ASSERT_EQ(p.estimates.get(i), 0.0) << i;
    }
  }
}

// 10 log10(|true|² / |true − estimate|²) of stem s.
double snr(const Problem& p, int64_t s) {
  double signal = 0;
  double error = 0;
  for (int64_t i = p.index(s, 0, 0); i < p.index(s + 1, 0, 0); ++i) {
    const double d = p.stems.get(i) - p.estimates.get(i);
    signal += p.stems.get(i) * p.stems.get(i);
    error += d * d;
  }
  return 10 * std::log10(signal / error);
}

// Two noises from two places share every bin: shares cannot part them, places do.
TEST(OracleMask, PlacesPartWhatSharesCannot) {
  const auto separated = [](OracleMask mask) {
    Problem p({"", mask, 2, 9000});
    const GuardedTensor noise = GuardedTensor::random({2, 9000}, 11);
    for (int64_t i = 0; i < 9000; ++i) {
      for (int64_t c = 0; c < 2; ++c) {
        const double left = noise.get(i) * (c == 0 ? 1.0 : 0.6);
        const double right = noise.get(9000 + i) * (c == 0 ? 0.6 : 1.0);
        p.set(0, c, i, left);
        p.set(1, c, i, right);
        p.mixture.set(c * 9000 + i, left + right);
      }
    }
    separate_by_oracle_masks(test_context(), p.args());
    return std::min(snr(p, 0), snr(p, 1));
  };
  EXPECT_LT(separated(OracleMask::kRatio), 12);
  EXPECT_LT(separated(OracleMask::kPower), 15);
  EXPECT_GT(separated(OracleMask::kWiener), 60);
}

// Tones that share no bin are parted by any mask.
TEST(OracleMask, TonesFarApartAreParted) {
  for (const OracleMask mask : kMasks) {
    Problem p({"", mask, 1, 6000});
    for (int64_t i = 0; i < 6000; ++i) {
      const auto tone = [&](double bin) {
        return std::sin(2 * std::numbers::pi * bin / kSize * static_cast<double>(i));
      };
      p.set(0, 0, i, tone(20));
      p.set(1, 0, i, tone(90));
      p.mixture.set(i, p.stems.get(p.index(0, 0, i)) + p.stems.get(p.index(1, 0, i)));
    }
    separate_by_oracle_masks(test_context(), p.args());
    EXPECT_GT(snr(p, 0), 30);
    EXPECT_GT(snr(p, 1), 30);
  }
}

TEST(OracleMask, RefusesWhatItCannotTake) {
  Problem shortest({"", OracleMask::kRatio, 1, kSize / 2});
  try {
    separate_by_oracle_masks(test_context(), shortest.args());
    FAIL() << "a track of half a window was accepted";
  } catch (const InputError& error) {
    EXPECT_STREQ(error.what(),
                 "oracle masks: a track of 256 samples is too short for windows of 512; more than "
                 "half a window is needed");
  }
  Problem three({"", OracleMask::kWiener, 3, 2000});
  expect_contract_error({"oracle masks: 3 channels"},
                        [&] { separate_by_oracle_masks(test_context(), three.args()); });
  Problem p({"", OracleMask::kRatio, 2, 2000});
  OracleMaskArgs args = p.args();
  args.mixture = args.mixture.slice(1, 0, 1999);
  expect_contract_error({"oracle masks", "mixture", "[2, 1999]"},
                        [&] { separate_by_oracle_masks(test_context(), args); });
}

}  // namespace
}  // namespace stemfabric::test
