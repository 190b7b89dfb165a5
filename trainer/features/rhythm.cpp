#include "trainer/features/rhythm.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "trainer/features/frame_spectra.h"

namespace stemfabric {
namespace {

constexpr int kBands = 24;
constexpr double kLeastBpm = 40.0, kMostBpm = 220.0;
constexpr double kPreferredBpm = 120.0;
constexpr double kLeastSeconds = 4.0;

double root_mean_square(std::span<const float> signal) {
  double sum = 0.0;
  for (const float x : signal) {
    sum += static_cast<double>(x) * static_cast<double>(x);
  }
  return signal.empty() ? 0.0 : std::sqrt(sum / static_cast<double>(signal.size()));
}

// Equal on the mel scale up to half the sample rate.
int onset_band(int64_t bin) {
  const auto mel = [](double hertz) { return std::log1p(hertz / 700.0); };
  const double hertz = static_cast<double>(bin) * OnsetEnvelope::kSampleRate /
                       static_cast<double>(OnsetEnvelope::kWindow);
  const double share = mel(hertz) / mel(0.5 * OnsetEnvelope::kSampleRate);
  return std::min(kBands - 1, static_cast<int>(share * kBands));
}

// values − mean over ±half, not below 0.
std::vector<double> above_local_mean(const std::vector<double>& values, int64_t half) {
  std::vector<double> sums(values.size() + 1, 0.0);
  for (std::size_t i = 0; i < values.size(); ++i) {
    sums[i + 1] = sums[i] + values[i];
  }
  std::vector<double> above(values.size());
  const auto count = static_cast<int64_t>(values.size());
  for (int64_t i = 0; i < count; ++i) {
    const int64_t from = std::max<int64_t>(0, i - half);
    const int64_t to = std::min(count, i + half + 1);
    const double mean =
        (sums[static_cast<std::size_t>(to)] - sums[static_cast<std::size_t>(from)]) /
        static_cast<double>(to - from);
    above[static_cast<std::size_t>(i)] = std::max(0.0, values[static_cast<std::size_t>(i)] - mean);
  }
  return above;
}

// Unbiased, of the values less their mean, over the value at lag 0.
std::vector<double> autocorrelation(const std::vector<double>& values, int64_t lags) {
  const auto count = static_cast<int64_t>(values.size());
  double mean = 0.0;
  for (const double v : values) {
    mean += v / static_cast<double>(count);
  }
  std::vector<double> result;
  for (int64_t lag = 0; lag < std::min(lags, count / 2); ++lag) {
    double sum = 0.0;
    for (int64_t i = lag; i < count; ++i) {
      sum += (values[static_cast<std::size_t>(i)] - mean) *
             (values[static_cast<std::size_t>(i - lag)] - mean);
    }
    result.push_back(sum / static_cast<double>(count - lag));
  }
  const double power = result.empty() || result[0] <= 0.0 ? 1.0 : result[0];
  for (double& r : result) {
    r /= power;
  }
  return result;
}

double interpolated(const std::vector<double>& values, double at) {
  const auto index = static_cast<std::size_t>(at);
  if (index + 1 >= values.size()) {
    return 0.0;
  }
  const double share = at - static_cast<double>(index);
  return (1.0 - share) * values[index] + share * values[index + 1];
}

// |Σ v(t) exp(−2πi f t)| over Σ v(t).
double strength_at(const std::vector<double>& values, double cycles_per_frame) {
  double re = 0.0, im = 0.0, sum = 0.0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double angle = 2.0 * std::numbers::pi * cycles_per_frame * static_cast<double>(i);
    re += values[i] * std::cos(angle);
    im += values[i] * std::sin(angle);
    sum += values[i];
  }
  return sum > 0.0 ? std::hypot(re, im) / sum : 0.0;
}

double preference(double bpm) {
  const double octaves = std::log2(bpm / kPreferredBpm);
  return std::exp(-0.5 * octaves * octaves);
}

}  // namespace

OnsetEnvelope onset_envelope(const ExecutionContext& ctx, std::span<const float> mono_22050) {
  OnsetEnvelope envelope;
  const double level = root_mean_square(mono_22050);
  if (level == 0.0) {
    return envelope;
  }
  std::array<double, kBands> before{};
  std::vector<double> rises;
  for_every_spectrum(
      ctx, mono_22050, OnsetEnvelope::kWindow, OnsetEnvelope::kHop,
      [&](int64_t frame, std::span<const float> spectrum) {
        std::array<double, kBands> power{};
        for (int64_t bin = 0; bin < static_cast<int64_t>(spectrum.size() / 2); ++bin) {
          power[static_cast<std::size_t>(onset_band(bin))] += bin_power(spectrum, bin);
        }
        double rise = 0.0;
        for (std::size_t band = 0; band < kBands; ++band) {
          const double now = std::log1p(100.0 * std::sqrt(power[band]) / level);
          rise += frame == 0 ? 0.0 : std::max(0.0, now - before[band]);
          before[band] = now;
        }
        rises.push_back(rise);
      });
  const double half_second = 0.5 * OnsetEnvelope::frames_per_second();
  envelope.values = above_local_mean(rises, std::lround(half_second));
  return envelope;
}

std::vector<Onset> find_onsets(const OnsetEnvelope& envelope, std::size_t most) {
  const std::vector<double>& v = envelope.values;
  std::vector<Onset> onsets;
  if (v.empty()) {
    return onsets;
  }
  const double strongest = *std::max_element(v.begin(), v.end());
  const auto reach =
      static_cast<std::size_t>(std::lround(0.05 * OnsetEnvelope::frames_per_second()));
  for (std::size_t i = 0; i < v.size(); ++i) {
    const std::size_t from = i < reach ? 0 : i - reach;
    const std::size_t to = std::min(v.size(), i + reach + 1);
    const auto highest = std::max_element(v.begin() + static_cast<std::ptrdiff_t>(from),
                                          v.begin() + static_cast<std::ptrdiff_t>(to));
    const bool first = highest == v.begin() + static_cast<std::ptrdiff_t>(i);
    if (first && v[i] > 0.0 && v[i] >= 0.1 * strongest) {
      onsets.push_back(
          {.time = OnsetEnvelope::seconds(static_cast<double>(i)), .strength = v[i] / strongest});
    }
  }
  if (onsets.size() > most) {
    std::stable_sort(onsets.begin(), onsets.end(),
                     [](const Onset& a, const Onset& b) { return a.strength > b.strength; });
    onsets.resize(most);
    std::sort(onsets.begin(), onsets.end(),
              [](const Onset& a, const Onset& b) { return a.time < b.time; });
  }
  return onsets;
}

std::optional<double> estimate_tempo(const OnsetEnvelope& envelope) {
  const std::vector<double>& v = envelope.values;
  const double rate = OnsetEnvelope::frames_per_second();
  const bool onsets = std::any_of(v.begin(), v.end(), [](double x) { return x > 0.0; });
  if (!onsets || static_cast<double>(v.size()) < kLeastSeconds * rate) {
    return std::nullopt;
  }
  constexpr int kMultiples = 4;
  const auto lags = static_cast<int64_t>(kMultiples * 60.0 / kLeastBpm * rate) + 2;
  const std::vector<double> correlation = autocorrelation(v, lags);
  double best = 0.0, best_score = 0.0;
  for (double bpm = kLeastBpm; bpm <= kMostBpm; bpm *= 1.0025) {
    const double period = 60.0 * rate / bpm;
    double comb = 0.0;
    for (int multiple = 1; multiple <= kMultiples; ++multiple) {
      comb += interpolated(correlation, multiple * period) / kMultiples;
    }
    const double score =
        std::max(0.0, comb) * std::sqrt(strength_at(v, 1.0 / period)) * preference(bpm);
    if (score > best_score) {
      best = bpm;
      best_score = score;
    }
  }
  return best_score > 0.0 ? std::optional<double>(best) : std::nullopt;
}

}  // namespace stemfabric
