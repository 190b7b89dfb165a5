// Spectra, onsets, tempo and tonality of signals whose truth is known.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <complex>
#include <numbers>

#include "runtime/device/execution_context.h"
#include "trainer/features/frame_spectra.h"
#include "trainer/features/rhythm.h"
#include "trainer/features/tonality.h"

namespace stemfabric {
namespace {

using std::numbers::pi;

ExecutionContext one_thread() { return ExecutionContext({.threads = 1}); }

std::vector<float> noise(int64_t count, uint32_t state = 1) {
  std::vector<float> samples(static_cast<std::size_t>(count));
  for (float& x : samples) {
    state = state * 1664525 + 1013904223;
    x = static_cast<float>(state >> 8) * 0x1p-23f - 1.0f;
  }
  return samples;
}

// Hann-windowed DFT of one bin by its formula.
std::complex<double> dft_bin(const float* x, int64_t n_fft, int64_t bin) {
  std::complex<double> sum = 0.0;
  for (int64_t n = 0; n < n_fft; ++n) {
    const double w =
        std::pow(std::sin(pi * static_cast<double>(n) / static_cast<double>(n_fft)), 2);
    const double turns = static_cast<double>(bin * n % n_fft) / static_cast<double>(n_fft);
    sum += w * static_cast<double>(x[n]) * std::polar(1.0, -2.0 * pi * turns);
  }
  return sum;
}

// More frames than a block of the stft, the last one at the very end; each frame where it belongs.
TEST(FrameSpectra, AreTheTransformsOfTheirSamples) {
  constexpr int64_t kFft = 512, kHop = 128;
  const auto ctx = one_thread();
  const auto signal = noise(kFft + 299 * kHop + 77);
  int64_t frames = 0;
  const auto check = [&](int64_t start, std::span<const float> spectrum) {
    ASSERT_EQ(spectrum.size(), 2u * (kFft / 2 + 1));
    for (const int64_t bin : {0, 1, 100, 256}) {
      const auto exact = dft_bin(signal.data() + start, kFft, bin);
      // Of a sum of 512 products in float32 with values up to 1: well below 1e-4.
      EXPECT_NEAR(spectrum[static_cast<std::size_t>(2 * bin)], exact.real(), 1e-4);
      EXPECT_NEAR(spectrum[static_cast<std::size_t>(2 * bin + 1)], exact.imag(), 1e-4);
    }
  };
  for_every_spectrum(ctx, signal, kFft, kHop, [&](int64_t frame, auto spectrum) {
    EXPECT_EQ(frame, frames++);
    check(frame * kHop, spectrum);
  });
  EXPECT_EQ(frames, 300);
  const std::vector<int64_t> starts = {0, 5, 5, static_cast<int64_t>(signal.size()) - kFft, 1000};
  frames = 0;
  for_spectra_at(ctx, signal, kFft, starts, [&](int64_t frame, auto spectrum) {
    EXPECT_EQ(frame, frames++);
    check(starts[static_cast<std::size_t>(frame)], spectrum);
  });
  EXPECT_EQ(frames, 5);
  for_every_spectrum(ctx, std::span(signal).first(kFft - 1), kFft, kHop,
                     [](int64_t, auto) { FAIL() << "a frame that is not whole"; });
}

TEST(FrameSpectra, PowersAddUpToTheMeanSquare) {
  constexpr int64_t kFft = 1024;
  const auto signal = noise(kFft);
  double windowed = 0.0;  // Σ (w x)² / Σ w²
  for (int64_t n = 0; n < kFft; ++n) {
    const double w = std::pow(std::sin(pi * static_cast<double>(n) / kFft), 2);
    windowed += std::pow(w * static_cast<double>(signal[static_cast<std::size_t>(n)]), 2);
  }
  windowed /= 0.375 * kFft;
  const std::vector<int64_t> starts = {0};
  for_spectra_at(one_thread(), signal, kFft, starts, [&](int64_t, auto spectrum) {
    double sum = 0.0;
    for (int64_t bin = 0; bin <= kFft / 2; ++bin) {
      sum += bin_power(spectrum, bin);
    }
    EXPECT_NEAR(sum, windowed, 1e-5 * windowed);
  });
}

// Short bursts of noise, every `period` seconds from 0.2 s on, the first of four louder.
std::vector<float> clicks(double bpm, double seconds) {
  std::vector<float> samples(static_cast<std::size_t>(seconds * OnsetEnvelope::kSampleRate));
  const auto burst = noise(800);
  for (int beat = 0; 0.2 + beat * 60.0 / bpm < seconds - 0.1; ++beat) {
    const auto start =
        static_cast<std::size_t>((0.2 + beat * 60.0 / bpm) * OnsetEnvelope::kSampleRate);
    for (std::size_t i = 0; i < burst.size(); ++i) {
      samples[start + i] +=
          (beat % 4 == 0 ? 0.8f : 0.5f) * burst[i] * std::exp(-0.008f * static_cast<float>(i));
    }
  }
  return samples;
}

TEST(Rhythm, TempoOfClicks) {
  const auto ctx = one_thread();
  for (const double bpm : {71.0, 97.3, 120.0, 133.7, 168.0}) {
    const auto tempo = estimate_tempo(onset_envelope(ctx, clicks(bpm, 15.0)));
    ASSERT_TRUE(tempo.has_value()) << bpm;
    EXPECT_NEAR(*tempo, bpm, 0.02 * bpm);
  }
}

TEST(Rhythm, OnsetsOfClicks) {
  const auto envelope = onset_envelope(one_thread(), clicks(90.0, 8.0));
  const auto onsets = find_onsets(envelope, 1000);
  ASSERT_EQ(onsets.size(), 12u);  // at 0.2 + 0.667 i below 7.9 s
  for (std::size_t i = 0; i < onsets.size(); ++i) {
    // Two hops: an onset is seen in the first frame that it fills enough of.
    EXPECT_NEAR(onsets[i].time, 0.2 + static_cast<double>(i) * 60.0 / 90.0, 0.025);
    EXPECT_GT(onsets[i].strength, 0.1);
    EXPECT_LE(onsets[i].strength, 1.0);
  }
  const auto few = find_onsets(envelope, 3);
  ASSERT_EQ(few.size(), 3u);
  EXPECT_TRUE(std::is_sorted(few.begin(), few.end(),
                             [](const Onset& a, const Onset& b) { return a.time < b.time; }));
  const auto weakest = [](const std::vector<Onset>& list) {
    return std::min_element(list.begin(), list.end(),
                            [](const Onset& a, const Onset& b) { return a.strength < b.strength; })
        ->strength;
  };
  EXPECT_GE(weakest(few), weakest(onsets));
}

TEST(Rhythm, LevelDoesNotMatter) {
  const auto ctx = one_thread();
  auto samples = clicks(110.0, 6.0);
  const auto loud = onset_envelope(ctx, samples);
  for (float& x : samples) {
    x *= 0.0078125f;
  }
  const auto quiet = onset_envelope(ctx, samples);
  ASSERT_EQ(loud.values.size(), quiet.values.size());
  for (std::size_t i = 0; i < loud.values.size(); ++i) {
    EXPECT_NEAR(loud.values[i], quiet.values[i], 1e-6);
  }
}

TEST(Rhythm, NothingToFind) {
  const auto ctx = one_thread();
  const auto silence = onset_envelope(ctx, std::vector<float>(100'000));
  EXPECT_TRUE(find_onsets(silence, 10).empty());
  EXPECT_FALSE(estimate_tempo(silence).has_value());
  EXPECT_FALSE(estimate_tempo(onset_envelope(ctx, clicks(120.0, 3.0))).has_value());  // too short
  EXPECT_TRUE(onset_envelope(ctx, std::vector<float>(100, 1.0f)).values.empty());
}

// Chords of tones with five harmonics each, a second each.
std::vector<float> chords(const std::vector<std::vector<int>>& keys) {
  std::vector<float> samples;
  for (const auto& chord : keys) {
    for (int64_t i = 0; i < Tonality::kSampleRate; ++i) {
      double x = 0.0;
      for (const int key : chord) {
        const double hertz = 440.0 * std::exp2((key - 69) / 12.0);
        for (int harmonic = 1; harmonic <= 5; ++harmonic) {
          x += 0.05 / harmonic *
               std::sin(2.0 * pi * hertz * harmonic * static_cast<double>(i) /
                        Tonality::kSampleRate);
        }
      }
      samples.push_back(static_cast<float>(x));
    }
  }
  return samples;
}

TEST(TonalityTest, KeyOfCadences) {
  const auto ctx = one_thread();
  for (int key = 0; key < 12; ++key) {
    const auto at = [&](std::vector<int> chord) {
      for (int& k : chord) {
        k += key;
      }
      return chord;
    };
    const auto major = analyse_tonality(ctx, chords({at({48, 60, 64, 67}), at({53, 60, 65, 69}),
                                                     at({55, 59, 62, 67}), at({48, 60, 64, 67})}));
    EXPECT_EQ(kKeyNames[static_cast<std::size_t>(major.key)],
              kKeyNames[static_cast<std::size_t>(key)]);
    EXPECT_EQ(major.mode, Mode::kMajor);
    const auto minor = analyse_tonality(ctx, chords({at({48, 60, 63, 67}), at({53, 60, 65, 68}),
                                                     at({55, 59, 62, 67}), at({48, 60, 63, 67})}));
    EXPECT_EQ(minor.key, key);
    EXPECT_EQ(minor.mode, Mode::kMinor);
    EXPECT_GT(minor.tension, 0.1);
    EXPECT_LT(minor.tension, 0.7);
  }
}

TEST(TonalityTest, ATriadHasLittleTensionAChromaticClusterMuch) {
  const auto ctx = one_thread();
  const double triad = analyse_tonality(ctx, chords({{60, 64, 67}})).tension;
  const double cluster =
      analyse_tonality(ctx, chords({{60, 61, 62, 63, 64, 65, 66, 67, 68, 69, 70, 71}})).tension;
  EXPECT_LT(triad, 0.35);  // the third harmonics of E and G are outside
  EXPECT_GT(cluster, 0.6);
}

TEST(TonalityTest, DominantFrequencies) {
  std::vector<float> samples(static_cast<std::size_t>(3 * Tonality::kSampleRate));
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const double t = static_cast<double>(i) / Tonality::kSampleRate;
    samples[i] = static_cast<float>(0.2 * std::sin(2.0 * pi * 311.3 * t) +
                                    0.5 * std::sin(2.0 * pi * 1234.5 * t));
  }
  const auto tonality = analyse_tonality(one_thread(), samples);
  ASSERT_GE(tonality.dominant_frequencies.size(), 2u);
  EXPECT_LE(tonality.dominant_frequencies.size(), 10u);
  EXPECT_NEAR(tonality.dominant_frequencies[0], 1234.5, 0.5);
  EXPECT_NEAR(tonality.dominant_frequencies[1], 311.3, 0.5);
}

TEST(TonalityTest, SilenceHasNone) {
  const auto tonality = analyse_tonality(one_thread(), std::vector<float>(20'000));
  EXPECT_EQ(tonality.mode, Mode::kUnknown);
  EXPECT_EQ(tonality.key, 0);
  EXPECT_EQ(tonality.tension, 0.5);
  EXPECT_TRUE(tonality.dominant_frequencies.empty());
  EXPECT_FALSE(estimate_key({}).has_value());
}

}  // namespace
}  // namespace stemfabric
