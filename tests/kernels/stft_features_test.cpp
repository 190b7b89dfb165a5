#include "kernels/stft_features/stft_features.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <numbers>

#include "kernels/stft/stft.h"
#include "kernels/stft_features/feature_bands.h"
#include "tests/oracles/stft_features_cases.h"
#include "tests/oracles/stft_features_oracle.h"
#include "tests/support/feature_bounds.h"
#include "tests/support/op_harness.h"
#include "tests/support/simd_levels.h"

namespace stemfabric::test {
namespace {

struct Problem {
  explicit Problem(const FeaturesCase& c)
      : signal({c.b, 2, c.samples}, DType::kF32,
               c.strided ? Layout{.order = {1, 0, 2}, .row_gap = 3} : Layout{}),
        features({c.b, c.frames(), kAudioFeatures}, DType::kF32,
                 c.strided ? Layout{.order = {1, 0, 2}, .row_gap = 5} : Layout{}),
        spectra({c.b, 2, c.frames(), c.bins(), 2}, DType::kF32,
                c.strided ? Layout{.order = {1, 2, 0, 3, 4}} : Layout{}) {}
  static Problem music(const FeaturesCase& c) {
    Problem p(c);
    p.signal.assign(music_like(c, GuardedTensor::random({c.b, 2, c.samples}, 1).values()));
    return p;
  }
  // One batch sample, left and right by their time in seconds.
  template <typename Left, typename Right>
  static Problem of(const FeaturesCase& c, const Left& left, const Right& right) {
    Problem p(c);
    for (int64_t i = 0; i < c.samples; ++i) {
      const double time = static_cast<double>(i) / static_cast<double>(c.sample_rate);
      p.signal.set(i, left(time));
      p.signal.set(c.samples + i, right(time));
    }
    return p;
  }
  StftInput input(const FeaturesCase& c) const {
    return {.channels = 2 * c.b,
            .samples = c.samples,
            .n_fft = c.n_fft,
            .hop_length = c.hop_length,
            .signal = signal.values(),
            .spectra = {}};
  }
  StftFeaturesArgs args(const FeaturesCase& c) {
    return {.signal = signal.view(),
            .sample_rate = c.sample_rate,
            .n_fft = c.n_fft,
            .hop_length = c.hop_length,
            .features = features.view(),
            .spectra = c.spectra ? spectra.view() : TensorView()};
  }
  double at(int64_t t, int64_t feature) const { return features.get(t * kAudioFeatures + feature); }
  GuardedTensor signal, features, spectra;
};

class StftFeaturesTest : public testing::TestWithParam<FeaturesCase> {};
INSTANTIATE_TEST_SUITE_P(Cases, StftFeaturesTest, testing::ValuesIn(features_test_cases()),
                         [](const auto& test) { return test.param.name; });

TEST_P(StftFeaturesTest, FollowsTheFormulas) {
  const FeaturesCase& c = GetParam();
  const StftInput input = Problem::music(c).input(c);
  const auto oracle = stft_features_oracle<double>(input, static_cast<double>(c.sample_rate));
  const auto naive = stft_features_oracle<float>(input, static_cast<double>(c.sample_rate));
  for_each_simd_level([&] {
    Problem p = Problem::music(c);
    run_repeatably({&p.features, &p.spectra},
                   [&](const ExecutionContext& ctx) { stft_features(ctx, p.args(c)); });
    expect_features(p.features.values(), naive, oracle);
    if (c.spectra) {
      expect_within_bound("spectra", p.spectra.values(),
                          stft_oracle<float>(input, Transform::kRecursion),
                          stft_oracle<double>(input, Transform::kRecursion));
    }
  });
}

TEST(StftFeatures, BandsCoverTheBinsOnce) {
  for (const int64_t n_fft : {512, 1024, 2048, 4096}) {
    const auto bands = feature_bands(n_fft);
    EXPECT_THAT(bands.edges, testing::ElementsAreArray(feature_edges_oracle(n_fft / 2 + 1)));
    EXPECT_EQ(bands.edges[0], 0);
    EXPECT_EQ(bands.edges[kSpectralFeatures], n_fft / 2 + 1);
    EXPECT_TRUE(
        std::is_sorted(std::begin(bands.edges), std::end(bands.edges), std::less_equal<>()));
  }
}

// The band powers of a frame, and the energies, are its mean square under the window.
TEST(StftFeatures, PowersAddUpToTheMeanSquare) {
  const FeaturesCase c = {"", 1, 4000, 1024, 256};
  Problem p = Problem::music(c);
  stft_features(test_context(), p.args(c));
  const auto x = p.signal.values();
  constexpr int64_t kFrame = 7;
  double squares = 0;
  double windows = 0;
  for (int64_t i = 0; i < c.n_fft; ++i) {
    const double w = std::pow(
        std::sin(std::numbers::pi * static_cast<double>(i) / static_cast<double>(c.n_fft)), 2);
    const auto at = static_cast<std::size_t>(kFrame * c.hop_length - c.n_fft / 2 + i);
    squares += std::pow(w * (x[at] + x[at + static_cast<std::size_t>(c.samples)]) / 2, 2);
    windows += w * w;
  }
  double bands = 0;
  for (int64_t j = 0; j < kSpectralFeatures; ++j) {
    bands += std::pow(10.0, p.at(kFrame, j));
  }
  // 1e-5: what rounding the logarithms costs. 129 floors were added.
  EXPECT_NEAR(bands / (squares / windows), 1, 1e-5);
  EXPECT_NEAR(std::pow(10.0, p.at(kFrame, kEnergyBegin + 2)) / (squares / windows), 1, 1e-5);
}

TEST(StftFeatures, SilenceHasTheFloorAndNothingElse) {
  const FeaturesCase c = {"", 1, 3000, 512, 128};
  const auto silent = [](double) { return 0.0; };
  Problem p = Problem::of(c, silent, silent);
  stft_features(test_context(), p.args(c));
  for (int64_t t = 0; t < c.frames(); ++t) {
    for (int64_t i = 0; i < kAudioFeatures; ++i) {
      const bool is_log =
          i < kStereoBegin || (i >= kHarmonicBegin && i < kTemporalBegin) || i >= kEnergyBegin;
      ASSERT_NEAR(p.at(t, i), is_log ? -10 : 0, 1e-5) << "frame " << t << ", feature " << i;
    }
  }
}

TEST(StftFeatures, ConstantSignalIsInTheLowestBands) {
  const FeaturesCase c = {"", 1, 3000, 512, 128};
  const auto half = [](double) { return 0.5; };
  Problem p = Problem::of(c, half, half);
  stft_features(test_context(), p.args(c));
  constexpr int64_t kFrame = 12;
  // Hann's window puts 2/3 of the power of a constant into bin 0, the rest into bin 1 (twice 1/6).
  EXPECT_NEAR(p.at(kFrame, 0), std::log10(0.25 * 2 / 3), 1e-5);
  EXPECT_NEAR(p.at(kFrame, 1), std::log10(0.25 / 3), 1e-5);
  EXPECT_NEAR(p.at(kFrame, 2), -10, 1e-3);
  EXPECT_NEAR(p.at(kFrame, kRms), 0.5, 1e-6);
  EXPECT_EQ(p.at(kFrame, kZeroCrossings), 0);
  EXPECT_NEAR(p.at(kFrame, kEnergyBegin + 2), std::log10(0.25), 1e-5);
  EXPECT_NEAR(p.at(kFrame, kEnergyBegin + 3), -10, 1e-3);
}

// Where a tone is in the stereo picture: the three values of its group.
TEST(StftFeatures, StereoValuesSayWhereAToneIs) {
  const FeaturesCase c = {"", 1, 12000, 4096, 1024};
  const auto sine = [](double gain, double phase) {
    return [=](double time) { return gain * std::sin(2 * std::numbers::pi * 1000 * time + phase); };
  };
  struct Picture {
    std::string name;
    double left, right, right_phase;
    double side_ratio, pan, phase, correlation;
  };
  constexpr double kQuarter = std::numbers::pi / 2;
  for (const Picture& x :
       {Picture{"middle", 0.5, 0.5, 0, 0, 0, 0, 1}, Picture{"left", 0.5, 0, 0, 0.5, -1, 0, 0},
        Picture{"right", 0, 0.5, 0, 0.5, 1, 0, 0},
        Picture{"half right", 0.25, 0.5, 0, 0.1, 0.6, 0, 0.8},
        Picture{"opposite", 0.5, 0.5, 2 * kQuarter, 1, 0, 0, -1},
        Picture{"left leads", 0.5, 0.5, -kQuarter, 0.5, 0, 1, 0},
        Picture{"right leads", 0.5, 0.5, kQuarter, 0.5, 0, -1, 0}}) {
    Problem p = Problem::of(c, sine(x.left, 0), sine(x.right, x.right_phase));
    stft_features(test_context(), p.args(c));
    const auto bands = feature_bands(c.n_fft);
    int g = 0;
    while (bands.edges[group_begin(g + 1, kStereoGroups)] <= 1000 * c.n_fft / 44100) {
      ++g;
    }
    const int64_t first = kStereoBegin + kStereoValues * g;
    constexpr int64_t kFrame = 6;
    EXPECT_NEAR(p.at(kFrame, first), x.side_ratio, 1e-3) << x.name;
    EXPECT_NEAR(p.at(kFrame, first + 1), x.pan, 1e-3) << x.name;
    EXPECT_NEAR(p.at(kFrame, first + 2), x.phase, 1e-3) << x.name;
    EXPECT_NEAR(p.at(kFrame, kCorrelation), x.correlation, 1e-3) << x.name;
  }
}

// A steady tone is harmonic, a click percussive; the pitch of a tone with harmonics is its lowest.
TEST(StftFeatures, TellsTonesFromClicks) {
  const FeaturesCase c = {"", 1, 44100, 4096, 1024};
  const auto tone = [](double time) {
    double x = 0;
    for (int h = 1; h <= 6; ++h) {
      x += 0.2 / h * std::sin(2 * std::numbers::pi * 220 * h * time);
    }
    return x;
  };
  const auto click = [](double time) { return std::abs(time - 0.5) < 1e-5 ? 1.0 : 0.0; };
  const auto loudest = [](const Problem& p, int64_t t, int64_t begin, int64_t count) {
    double most = -100;
    for (int64_t i = begin; i < begin + count; ++i) {
      most = std::max(most, p.at(t, i));
    }
    return most;
  };
  constexpr int64_t kFrame = 22;  // within 4 ms of the click
  Problem steady = Problem::of(c, tone, tone);
  stft_features(test_context(), steady.args(c));
  EXPECT_GT(loudest(steady, kFrame, kHarmonicBegin, kHarmonicFeatures),
            2 + loudest(steady, kFrame, kPercussiveBegin, kPercussiveFeatures));
  // An octave is 12 semitones: right within a tenth of one.
  EXPECT_NEAR(steady.at(kFrame, kPitch), 2, 0.1 / 12);
  EXPECT_LT(steady.at(kFrame, kFlux), 0.01);

  Problem hit = Problem::of(c, click, click);
  stft_features(test_context(), hit.args(c));
  EXPECT_GT(loudest(hit, kFrame, kPercussiveBegin, kPercussiveFeatures),
            2 + loudest(hit, kFrame, kHarmonicBegin, kHarmonicFeatures));
  EXPECT_GT(hit.at(kFrame - 2, kFlux), 0.9);
  EXPECT_EQ(hit.at(kFrame + 1, kFlux), 0);
}

// A frame depends on its neighbours up to kFeatureContextFrames: a piece of a signal has the same
// features, to the bit, as the whole where it knows that many.
TEST(StftFeatures, PiecesAgreeWithTheWhole) {
  const FeaturesCase whole = {"", 1, 20000, 512, 128};
  constexpr int64_t kFirst = 30;
  constexpr int64_t kFrames = 60;
  Problem p = Problem::music(whole);
  stft_features(test_context(), p.args(whole));
  const FeaturesCase piece = {"", 1, kFrames * whole.hop_length, 512, 128};
  Problem q(piece);
  for (int64_t channel = 0; channel < 2; ++channel) {
    for (int64_t i = 0; i < piece.samples; ++i) {
      q.signal.set(channel * piece.samples + i,
                   p.signal.get(channel * whole.samples + kFirst * whole.hop_length + i));
    }
  }
  stft_features(test_context(), q.args(piece));
  // The first and last n_fft/2 samples see the mirror instead of the signal.
  constexpr int64_t kMargin = kFeatureContextFrames + 2;
  for (int64_t t = kMargin; t <= kFrames - kMargin; ++t) {
    for (int64_t i = 0; i < kAudioFeatures; ++i) {
      ASSERT_EQ(q.at(t, i), p.at(kFirst + t, i)) << "frame " << t << ", feature " << i;
    }
  }
  EXPECT_NE(q.at(kMargin - 3, kHarmonicBegin), p.at(kFirst + kMargin - 3, kHarmonicBegin));
}

TEST(StftFeatures, NanReachesItsFramesAndTheirNeighbours) {
  const FeaturesCase c = {"", 2, 6000, 512, 128};
  constexpr int64_t kSpoiled = 2999;
  for (const double value : {kNaN, kInf}) {
    Problem p = Problem::music(c);
    p.signal.set(c.samples + kSpoiled, value);  // the right channel of the first sample
    stft_features(test_context(), p.args(c));
    const auto holds = [&](int64_t t) {
      const int64_t begin = t * c.hop_length - c.n_fft / 2;
      return begin <= kSpoiled && kSpoiled < begin + c.n_fft;
    };
    expect_non_finite_exactly("features", p.features.values(), [&](int64_t i) {
      const int64_t feature = i % kAudioFeatures;
      const int64_t t = i / kAudioFeatures;
      if (t >= c.frames()) {
        return false;
      }
      bool near = false;
      for (int64_t reach = -kMedianReach; reach <= kMedianReach; ++reach) {
        near = near || holds(t + reach);
      }
      return holds(t) || (near && feature >= kHarmonicBegin && feature < kTemporalBegin) ||
             (feature == kFlux && holds(t - 1));
    });
  }
}

TEST(StftFeatures, RefusesWhatItCannotDescribe) {
  const FeaturesCase good = {"", 1, 1000, 512, 128, 44100, false, true};
  const auto refuses = [&](const std::vector<std::string>& parts, const auto& change) {
    Problem p(good);
    StftFeaturesArgs args = p.args(good);
    change(args);
    expect_contract_error(parts, [&] { stft_features(test_context(), args); });
  };
  refuses({"stft_features", "n_fft is 100"}, [](auto& a) { a.n_fft = 100; });
  refuses({"stft_features", "hop_length is 512", "256"}, [](auto& a) { a.hop_length = 512; });
  refuses({"stft_features", "sample_rate is 0", "8000 to 192000"},
          [](auto& a) { a.sample_rate = 0; });
  refuses({"stft_features", "signal", "[1, 1, 1000]"},
          [](auto& a) { a.signal = a.signal.slice(1, 0, 1); });
  refuses({"stft_features", "features", "[1, 8, 255]"},
          [](auto& a) { a.features = a.features.slice(2, 0, 255); });
  refuses({"stft_features", "spectra", "[1, 2, 8, 256, 2]"},
          [](auto& a) { a.spectra = a.spectra.slice(3, 0, 256); });
}

}  // namespace
}  // namespace stemfabric::test
