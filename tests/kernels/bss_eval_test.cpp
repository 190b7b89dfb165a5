#include "kernels/bss_eval/bss_eval.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "kernels/bss_eval/block_toeplitz_cpu.h"
#include "kernels/bss_eval/spectrum_cpu.h"
#include "tests/oracles/bss_oracle.h"
#include "tests/support/op_harness.h"
#include "tests/support/simd_levels.h"

namespace stemfabric::test {
namespace {

constexpr int64_t kMeasures = 4;

struct Case {
  int64_t sources, channels, samples, taps, window, hop;
};

// References of noise with a share of their neighbour, estimates with leakage and noise.
struct Signals {
  explicit Signals(const Case& the_case, int64_t gap = 0)
      : c(the_case),
        references(
            GuardedTensor::random({c.sources, c.channels, c.samples}, 1, -1, 1, {.row_gap = gap})),
        estimates(GuardedTensor::random({c.sources, c.channels, c.samples}, 2, -0.3, 0.3,
                                        {.row_gap = gap})) {
    const int64_t size = c.channels * c.samples;
    for (int64_t i = 0; i < c.sources * size; ++i) {
      const double own = references.get(i);
      const double leaked = references.get((i + size) % (c.sources * size));
      const double earlier = i % c.samples > 0 ? references.get(i - 1) : 0;
      estimates.set(i, estimates.get(i) + 0.8 * own + 0.3 * leaked - 0.2 * earlier);
    }
  }

  int64_t place(int64_t source, int64_t channel, int64_t sample) const {
    return (source * c.channels + channel) * c.samples + sample;
  }
  // One source in samples [begin, end): every channel c becomes scale[c] times channel 0.
  void mix(GuardedTensor& signals, int64_t source, int64_t begin, int64_t end,
           const std::vector<double>& scale) const {
    for (int64_t t = begin; t < end; ++t) {
      const double x = signals.get(place(source, 0, t));
      for (int64_t k = 0; k < c.channels; ++k) {
        signals.set(place(source, k, t), scale[static_cast<std::size_t>(k)] * x);
      }
    }
  }
  BssInput oracle_input() const {
    return {c.sources, c.channels, c.samples, c.taps, references.values(), estimates.values()};
  }

  Case c;
  GuardedTensor references, estimates;
};

struct Result {
  GuardedTensor frames, whole, silent;
  double frame(int64_t measure, int64_t source, int64_t f) const {
    const int64_t count = frames.view().dim(2);
    return frames.get((measure * frames.view().dim(1) + source) * count + f);
  }
};

Result run(const Signals& s, int variant = 2) {
  const int64_t frames = bss_frame_count(s.c.samples, s.c.window, s.c.hop);
  Result r = {GuardedTensor({kMeasures, s.c.sources, frames}, DType::kF64),
              GuardedTensor({kMeasures + 1, s.c.sources}, DType::kF64),
              GuardedTensor({2, s.c.sources}, DType::kU8)};
  bss_eval(test_context(variant), {.references = s.references.view(),
                                   .estimates = s.estimates.view(),
                                   .window = s.c.window,
                                   .hop = s.c.hop,
                                   .taps = s.c.taps,
                                   .frames = r.frames.view(),
                                   .whole = r.whole.view(),
                                   .silent = r.silent.view()});
  return r;
}

// The references are nearly white, so the condition of the least-squares problem is below 1e3 and
// float64 leaves 1e-13 of the energies, whose ratios are below 1e4: less than 1e-8 dB.
constexpr double kDecibels = 1e-8;

void expect_decibel(double got, double expected) {
  if (std::isinf(expected)) {
    EXPECT_EQ(got, expected);  // one source: both projections are the same
  } else {
    EXPECT_NEAR(got, expected, kDecibels);
  }
}

void expect_whole(const Signals& s, const Result& got) {
  const auto whole = bss_oracle(s.oracle_input(), 0, s.c.samples);
  for (std::size_t i = 0; i < whole.size(); ++i) {
    expect_decibel(got.whole.get(static_cast<int64_t>(i)), whole[i]);
  }
}

void expect_oracle(const Signals& s, const Result& got) {
  const BssInput in = s.oracle_input();
  expect_whole(s, got);
  for (int64_t f = 0; f < got.frames.view().dim(2); ++f) {
    const auto frame = bss_oracle(in, f * s.c.hop, std::min(s.c.samples, f * s.c.hop + s.c.window));
    for (int64_t m = 0; m < kMeasures; ++m) {
      for (int64_t j = 0; j < s.c.sources; ++j) {
        SCOPED_TRACE(testing::Message() << "measure " << m << " source " << j << " frame " << f);
        expect_decibel(got.frame(m, j, f), frame[static_cast<std::size_t>(m * s.c.sources + j)]);
      }
    }
  }
}

TEST(BssEval, AgreesWithLeastSquares) {
  for_each_simd_level([] {
    for (const Case& c : {Case{1, 1, 50, 3, 20, 20},
                          {2, 1, 700, 16, 100, 37},        // overlapping frames
                          {2, 2, 411, 7, 150, 200},        // frames with gaps
                          {3, 1, 301, 9, 301, 100},        // one frame
                          {3, 2, 260, 5, 1000, 1},         // shorter than a frame
                          {4, 2, 170, 4, 64, 64},          // 8 signals
                          {6, 2, 200, 3, 77, 70},          // 12 signals
                          {7, 1, 120, 4, 50, 50},          // a number without code of its own
                          {17, 1, 150, 3, 60, 60},         // more than a row in registers
                          {2, 1, 37000, 2, 17001, 9000}})  // many blocks
    {
      SCOPED_TRACE(testing::Message() << c.sources << " " << c.channels << " " << c.samples);
      const Signals s(c);
      expect_oracle(s, run(s));
    }
  });
}

// More blocks of the whole signal, and more of frames, than spectra are kept at a time.
TEST(BssEval, LongSignalsAndManyFrames) {
  for (const Case& c : {Case{1, 1, 710000, 1, 710000, 1}, {1, 1, 650, 2, 90, 1}}) {
    const Signals s(c);
    expect_oracle(s, run(s));
  }
}

TEST(BssEval, StridesOfSourcesAndChannelsAreFree) {
  const Case c = {2, 2, 300, 6, 100, 100};
  const Result dense = run(Signals(c));
  const Result spread = run(Signals(c, 13));
  EXPECT_EQ(dense.frames.values(), spread.frames.values());
  EXPECT_EQ(dense.whole.values(), spread.whole.values());
}

void expect_same_bits(const Case& c) {
  const Signals s(c);
  const Result one = run(s, 1);
  for (const int variant : {1, 2, 3}) {
    const Result other = run(s, variant);
    EXPECT_EQ(one.frames.values(), other.frames.values()) << variant;
    EXPECT_EQ(one.whole.values(), other.whole.values()) << variant;
  }
}

TEST(BssEval, NoBitDependsOnTheOrderOfThreads) { expect_same_bits({3, 1, 900, 6, 700, 400}); }

// With all taps; too large for the executor.
TEST(BssEvalLarge, NoBitDependsOnTheOrderOfThreads) {
  expect_same_bits({3, 2, 20011, kBssTaps, 8000, 4000});
}

// The Gram matrix is singular: equal channels, a channel without a signal, a source that is another
// one later, and a source that is a sum of others.
TEST(BssEval, DependentReferences) {
  for_each_simd_level([] {
    Signals s({3, 2, 400, 8, 150, 120});
    s.mix(s.references, 0, 0, s.c.samples, {1, 1});
    expect_oracle(s, run(s));
    Signals left(s.c);
    left.mix(left.references, 1, 0, s.c.samples, {1, 0});
    expect_oracle(left, run(left));
    Signals one_tap({2, 2, 200, 1, 90, 90});
    one_tap.mix(one_tap.references, 0, 0, one_tap.c.samples, {1, 1});
    expect_oracle(one_tap, run(one_tap));
    Signals late({2, 1, 300, 5, 120, 90});  // singular from the second tap on
    late.references.set(late.place(0, 0, 299), 0);
    late.references.set(late.place(1, 0, 0), 0);
    for (int64_t t = 1; t < 300; ++t) {
      late.references.set(late.place(1, 0, t), late.references.get(late.place(0, 0, t - 1)));
    }
    expect_whole(late, run(late));  // which filters it has, shows at the ends of frames
    for (int64_t t = 0; t < s.c.samples; ++t) {
      const double sum = s.references.get(s.place(0, 0, t)) + s.references.get(s.place(1, 1, t));
      s.references.set(s.place(2, 1, t), static_cast<float>(sum));
    }
    // float32 sums are not exact, so the filters of this one are not small.
    const Result got = run(s);
    for (const double value : got.frames.values()) {
      EXPECT_TRUE(std::isfinite(value));
    }
  });
}

TEST(BssEval, AnEstimateThatIsItsReference) {
  Signals s({2, 1, 4000, 40, 1000, 1000});
  for (int64_t t = 0; t < s.c.samples; ++t) {
    s.estimates.set(t, s.references.get(t));
  }
  const Result got = run(s);
  for (int64_t f = 0; f < 4; ++f) {
    EXPECT_EQ(got.frame(0, 0, f), kInf);
    for (int64_t m = 1; m < kMeasures; ++m) {
      EXPECT_GT(got.frame(m, 0, f), 200);
    }
    EXPECT_LT(got.frame(0, 1, f), 30);
  }
}

void expect_nan_frames(const Result& got, const std::vector<bool>& expected) {
  for (int64_t m = 0; m < kMeasures; ++m) {
    for (int64_t j = 0; j < got.frames.view().dim(1); ++j) {
      for (std::size_t f = 0; f < expected.size(); ++f) {
        EXPECT_EQ(std::isnan(got.frame(m, j, static_cast<int64_t>(f))), expected[f])
            << m << " " << j << " " << f;
      }
    }
  }
}

// museval's test of silence looks at the sum of the channels, and spoils a frame for all sources.
TEST(BssEval, FramesWithASilentSourceAreNan) {
  Signals s({2, 2, 600, 5, 100, 100});
  s.mix(s.references, 0, 100, 200, {0, 0});
  s.mix(s.estimates, 1, 200, 300, {0, 0});
  s.mix(s.references, 1, 300, 400, {1, -1});
  s.mix(s.references, 0, 401, 500, {0, 0});  // all but one sample
  const Result got = run(s);
  expect_nan_frames(got, {false, true, true, true, false, false});
  const auto whole = bss_oracle(s.oracle_input(), 0, s.c.samples);
  for (std::size_t i = 0; i < whole.size(); ++i) {
    EXPECT_NEAR(got.whole.get(static_cast<int64_t>(i)), whole[i], kDecibels);
  }
  for (int64_t i = 0; i < 4; ++i) {
    EXPECT_EQ(got.silent.get(i), 0);
  }
}

// A source that is silent throughout has no values and leaves the others as if it were not there;
// a reference that is not zero still takes part in the projections.
constexpr Case kThreeSources = {3, 2, 500, 4, 200, 150};

TEST(BssEval, AnEstimateThatIsSilentThroughout) {
  Signals s(kThreeSources);
  s.mix(s.estimates, 1, 0, s.c.samples, {0, 0});
  const Result got = run(s);
  const Result expected = run(Signals(kThreeSources));
  for (int64_t m = 0; m < kMeasures; ++m) {
    for (int64_t f = 0; f < got.frames.view().dim(2); ++f) {
      EXPECT_EQ(got.frame(m, 0, f), expected.frame(m, 0, f));
      EXPECT_EQ(got.frame(m, 2, f), expected.frame(m, 2, f));
      EXPECT_TRUE(std::isnan(got.frame(m, 1, f)));
    }
  }
  EXPECT_EQ(got.silent.values(), (std::vector<double>{0, 0, 0, 0, 1, 0}));
}

TEST(BssEval, AReferenceThatIsSilentThroughout) {
  for (const double right : {-1.0, 0.0}) {
    Signals s(kThreeSources);
    s.mix(s.references, 2, 0, s.c.samples, {right == 0 ? 0.0 : 1.0, right});
    const Result got = run(s);
    const auto whole = bss_oracle(s.oracle_input(), 0, s.c.samples);
    for (int64_t m = 0; m <= kMeasures; ++m) {
      for (const int64_t j : {0, 1}) {
        EXPECT_NEAR(got.whole.get(m * 3 + j), whole[static_cast<std::size_t>(m * 3 + j)],
                    kDecibels);
        EXPECT_TRUE(std::isfinite(got.frame(std::min(m, kMeasures - 1), j, 1)));
      }
      EXPECT_TRUE(std::isnan(got.whole.get(m * 3 + 2)));
    }
    EXPECT_EQ(got.silent.values(), (std::vector<double>{0, 0, 1, 0, 0, 0}));
  }
}

TEST(BssEval, ASignalOfOneSampleIsNotSilent) {
  Signals nan({1, 1, 100, 3, 100, 100});
  nan.mix(nan.references, 0, 0, 100, {0});
  nan.references.set(50, kNaN);
  EXPECT_EQ(run(nan).silent.get(0), 0);
  for (const int64_t sounds : {0, 255, 256, 700, 1023, 1024, 1499}) {
    Signals s({1, 1, 1500, 3, 1500, 1500});
    s.mix(s.references, 0, 0, sounds, {0});
    s.mix(s.references, 0, sounds + 1, 1500, {0});
    const Result got = run(s);
    EXPECT_EQ(got.silent.get(0), 0) << sounds;
    EXPECT_FALSE(std::isnan(got.frame(0, 0, 0))) << sounds;
  }
}

TEST(BssEval, AllSilent) {
  Signals s({1, 1, 90, 4, 30, 30});
  s.mix(s.references, 0, 0, 90, {0});
  const Result got = run(s);
  expect_nan_frames(got, {true, true, true});
  EXPECT_TRUE(std::isnan(got.whole.get(0)));
}

// What a projection on the bad signal takes part in is NaN, and no search for a load goes on for
// ever.
TEST(BssEval, ValuesThatAreNotFiniteEndInNan) {
  for (const double bad : {kNaN, kInf}) {
    Signals s({2, 1, 300, 4, 100, 100});
    s.references.set(17, bad);
    const Result got = run(s);
    const auto whole = got.whole.values();
    EXPECT_TRUE(std::isnan(whole[0]) || whole[0] < 0);  // SDR of that source
    for (const std::size_t i : {1U, 3U, 9U}) {          // SDR, ISR, source SDR of the other
      EXPECT_TRUE(std::isfinite(whole[i])) << i;
    }
    for (const std::size_t i : {2U, 4U, 5U, 6U, 7U, 8U}) {
      EXPECT_TRUE(std::isnan(whole[i])) << i;
    }
    EXPECT_TRUE(std::isnan(got.frame(2, 0, 1)));  // its filters come from the whole signal
  }
}

TEST(BssEval, CountsFramesAsMuseval) {
  EXPECT_EQ(bss_frame_count(100, 30, 30), 3);
  EXPECT_EQ(bss_frame_count(120, 30, 30), 4);
  EXPECT_EQ(bss_frame_count(100, 30, 7), 11);
  EXPECT_EQ(bss_frame_count(100, 99, 50), 1);
  EXPECT_EQ(bss_frame_count(100, 100, 10), 1);
  EXPECT_EQ(bss_frame_count(10, 100, 10), 1);
  EXPECT_EQ(bss_frame_count(100, 10, 40), 3);
}

TEST(BssEval, NamesTheArgumentAtFault) {
  Signals s({2, 1, 60, 4, 20, 20});
  GuardedTensor frames({4, 2, 3}, DType::kF64);
  const BssEvalArgs good = {.references = s.references.view(),
                            .estimates = s.estimates.view(),
                            .window = 20,
                            .hop = 20,
                            .taps = 4,
                            .frames = frames.view()};
  const auto refused = [&](const std::vector<std::string>& parts, auto change) {
    BssEvalArgs args = good;
    change(args);
    expect_contract_error(parts, [&] { bss_eval(test_context(), args); });
  };
  EXPECT_NO_THROW(bss_eval(test_context(), good));
  refused({"bss_eval", "references is missing"}, [](auto& a) { a.references = {}; });
  refused({"bss_eval", "estimates has shape"},
          [](auto& a) { a.estimates = a.estimates.slice(2, 0, 59); });
  refused({"references has shape"}, [](auto& a) {
    a.references = a.references.slice(0, 0, 0);
    a.estimates = a.references;
  });
  refused({"window 0"}, [](auto& a) { a.window = 0; });
  refused({"hop -1"}, [](auto& a) { a.hop = -1; });
  refused({"taps is 513"}, [](auto& a) { a.taps = kBssTaps + 1; });
  refused({"frames has shape"}, [](auto& a) { a.hop = 5; });
  refused({"whole has shape"}, [&](auto& a) { a.whole = frames.view(); });
  refused({"silent has shape"}, [&](auto& a) { a.silent = frames.view(); });
}

// R_k Z-transforms aside: a matrix with these blocks, times the solution, is the right-hand side.
TEST(BlockToeplitz, SolvesWhatItFactorised) {
  for_each_simd_level([] {
    for (const int64_t p : {1, 2, 3, 4, 5, 6, 8, 12, 13}) {
      for (const int64_t m : {1, 2, 7, 40}) {
        const int64_t n = p * m;
        // Blocks of the correlations of random signals: positive definite.
        const GuardedTensor x = GuardedTensor::random({p, 200}, 3);
        std::vector<double> blocks(static_cast<std::size_t>(p * p * m));
        const auto block = [&](int64_t k, int64_t k2, int64_t lag) -> double& {
          return blocks[static_cast<std::size_t>((k * p + k2) * m + lag)];
        };
        for (int64_t k = 0; k < p; ++k) {
          for (int64_t k2 = 0; k2 < p; ++k2) {
            for (int64_t lag = 0; lag < m; ++lag) {
              for (int64_t t = 0; t + lag < 200; ++t) {
                block(k, k2, lag) += x.get(k * 200 + t) * x.get(k2 * 200 + t + lag);
              }
            }
          }
        }
        std::vector<double> factor(static_cast<std::size_t>(cpu::BlockToeplitz::factor_size(p, m)));
        std::vector<double> scratch(
            static_cast<std::size_t>(cpu::BlockToeplitz::scratch_size(p, m)));
        cpu::BlockToeplitz matrix(p, m, factor.data(), scratch.data());
        constexpr double kLoad = 0.25;
        ASSERT_TRUE(matrix.factorise(blocks.data(), kLoad, nullptr));
        constexpr int64_t kColumns = 5;
        const GuardedTensor right = GuardedTensor::random({kColumns, n}, 4);
        std::vector<double> solution = right.values();
        std::vector<double> pivots(static_cast<std::size_t>(kColumns * p));
        matrix.solve(solution.data(), kColumns, n, pivots.data());
        for (int64_t c = 0; c < kColumns; ++c) {
          for (int64_t row = 0; row < n; ++row) {
            double sum = 0;
            for (int64_t column = 0; column < n; ++column) {
              const int64_t lag = row / p - column / p;
              const double element =
                  lag >= 0 ? block(row % p, column % p, lag) : block(column % p, row % p, -lag);
              sum += (element + (row == column ? kLoad : 0)) *
                     solution[static_cast<std::size_t>(c * n + column)];
            }
            ASSERT_NEAR(sum, right.get(c * n + row), 1e-9) << p << " " << m;
          }
        }
      }
    }
  });
}

TEST(BlockToeplitz, RefusesWhatIsNotPositiveDefinite) {
  std::vector<double> factor(100);
  std::vector<double> scratch(100);
  const auto factorise = [&](int64_t p, int64_t m, const std::vector<double>& blocks) {
    return cpu::BlockToeplitz(p, m, factor.data(), scratch.data())
        .factorise(blocks.data(), 0, nullptr);
  };
  EXPECT_TRUE(factorise(1, 3, {1, 0.5, 0.2}));
  EXPECT_FALSE(factorise(1, 3, {1, 1, 1}));  // singular
  EXPECT_FALSE(factorise(1, 3, {1, 0.9, -0.9}));
  EXPECT_FALSE(factorise(1, 2, {-1, 0}));
  EXPECT_FALSE(factorise(1, 2, {kNaN, 0}));
  EXPECT_FALSE(factorise(1, 2, {1, kNaN}));
  EXPECT_FALSE(factorise(2, 1, {1, 1, 1, 1}));
}

TEST(BssSpectrum, IsTheFourierTransform) {
  for_each_simd_level([] {
    for (const int64_t n : {0, 1, 2, 15, 16, 17, 100, 4095, 4096}) {
      const GuardedTensor x = GuardedTensor::random({std::max<int64_t>(n, 1)}, 1);
      const auto* samples = x.view().as<float>();
      const auto wide = x.values();
      std::vector<double> spectrum(cpu::kSpectrumSize, kNaN);
      std::vector<double> other(cpu::kSpectrumSize, kNaN);
      std::vector<double> scratch(cpu::kFftScratch);
      cpu::forward_fft(samples, n, spectrum.data(), scratch.data());
      cpu::forward_fft(wide.data(), n, other.data(), scratch.data());
      EXPECT_EQ(spectrum, other);
      for (const int64_t k : {0, 1, 2, 7, 1023, 1024, 1025, 2047, 2048}) {
        double re = 0;
        double im = 0;
        for (int64_t t = 0; t < n; ++t) {
          const double angle = -2 * std::numbers::pi * static_cast<double>(k * t % cpu::kFftSize) /
                               static_cast<double>(cpu::kFftSize);
          re += x.get(t) * std::cos(angle);
          im += x.get(t) * std::sin(angle);
        }
        EXPECT_NEAR(spectrum[static_cast<std::size_t>(k)], re, 1e-11) << n << " " << k;
        EXPECT_NEAR(spectrum[static_cast<std::size_t>(cpu::kBinStride + k)], im, 1e-11) << n;
      }
      std::vector<double> back(cpu::kFftSize);
      cpu::inverse_fft(spectrum.data(), back.data(), scratch.data());
      for (int64_t t = 0; t < cpu::kFftSize; ++t) {
        ASSERT_NEAR(back[static_cast<std::size_t>(t)] / cpu::kFftSize, t < n ? x.get(t) : 0, 1e-13);
      }
    }
  });
}

}  // namespace
}  // namespace stemfabric::test
