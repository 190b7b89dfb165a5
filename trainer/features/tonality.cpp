#include "trainer/features/tonality.h"

#include <algorithm>
#include <cmath>

#include "trainer/features/frame_spectra.h"

namespace stemfabric {
namespace {

constexpr double kLowestHertz = 55.0, kHighestHertz = 2000.0;
constexpr std::array<double, 12> kMajorProfile = {0.238, 0.006, 0.111, 0.006, 0.137, 0.094,
                                                  0.016, 0.214, 0.009, 0.080, 0.008, 0.081};
constexpr std::array<double, 12> kMinorProfile = {0.220, 0.006, 0.104, 0.123, 0.019, 0.103,
                                                  0.012, 0.214, 0.062, 0.022, 0.061, 0.052};

struct Peak {
  double hertz = 0.0;
  double power = 0.0;
};

// Local maxima between two frequencies, placed by a parabola through the logarithms.
std::vector<Peak> find_peaks(std::span<const double> power, double low, double high) {
  const double per_bin = static_cast<double>(Tonality::kSampleRate) / Tonality::kWindow;
  std::vector<Peak> peaks;
  for (std::size_t k = 2; k + 2 < power.size(); ++k) {
    const bool highest = power[k] > power[k - 1] && power[k] >= power[k + 1] &&
                         power[k] > power[k - 2] && power[k] >= power[k + 2];
    if (!highest || power[k - 1] <= 0.0 || power[k + 1] <= 0.0) {
      continue;
    }
    const double left = std::log(power[k - 1]), middle = std::log(power[k]),
                 right = std::log(power[k + 1]);
    const double bend = left - 2.0 * middle + right;
    const double offset = bend < 0.0 ? 0.5 * (left - right) / bend : 0.0;
    const double hertz = (static_cast<double>(k) + offset) * per_bin;
    if (hertz >= low && hertz <= high) {
      peaks.push_back({.hertz = hertz, .power = power[k]});
    }
  }
  return peaks;
}

// Amplitudes of peaks by pitch class, less the farther they are from the middle of their semitone.
void add_to_chroma(const std::vector<Peak>& peaks, std::array<double, 12>& chroma) {
  for (const Peak& peak : peaks) {
    const double pitch = 69.0 + 12.0 * std::log2(peak.hertz / 440.0);
    const double nearest = std::round(pitch);
    const double off = pitch - nearest;
    const double weight = std::sqrt(peak.power) * std::max(0.0, 1.0 - 4.0 * off * off);
    chroma[static_cast<std::size_t>(static_cast<int>(nearest) % 12)] += weight;
  }
}

double correlation(const std::array<double, 12>& a, const std::array<double, 12>& b, int turn) {
  double mean_a = 0.0, mean_b = 0.0;
  for (std::size_t i = 0; i < 12; ++i) {
    mean_a += a[i] / 12.0;
    mean_b += b[i] / 12.0;
  }
  double ab = 0.0, aa = 0.0, bb = 0.0;
  for (std::size_t i = 0; i < 12; ++i) {
    const double x = a[(i + static_cast<std::size_t>(turn)) % 12] - mean_a;
    const double y = b[i] - mean_b;
    ab += x * y;
    aa += x * x;
    bb += y * y;
  }
  return aa > 0.0 && bb > 0.0 ? ab / std::sqrt(aa * bb) : 0.0;
}

double triad_share(const std::array<double, 12>& chroma, const KeyEstimate& estimate) {
  const int third = estimate.mode == Mode::kMinor ? 3 : 4;
  double share = 0.0;
  for (const int semitones : {0, third, 7}) {
    share += chroma[static_cast<std::size_t>((estimate.key + semitones) % 12)];
  }
  return share;
}

}  // namespace

std::optional<KeyEstimate> estimate_key(const std::array<double, 12>& chroma) {
  std::optional<KeyEstimate> best;
  double best_correlation = 0.0;
  for (int key = 0; key < 12; ++key) {
    for (const Mode mode : {Mode::kMajor, Mode::kMinor}) {
      const auto& profile = mode == Mode::kMajor ? kMajorProfile : kMinorProfile;
      const double r = correlation(chroma, profile, key);
      if (r > best_correlation) {
        best_correlation = r;
        best = {.key = key, .mode = mode};
      }
    }
  }
  return best;
}

Tonality analyse_tonality(const ExecutionContext& ctx, std::span<const float> mono_11025) {
  Tonality tonality;
  std::vector<double> mean, power;
  for_every_spectrum(ctx, mono_11025, Tonality::kWindow, Tonality::kHop,
                     [&](int64_t, std::span<const float> spectrum) {
                       const std::size_t bins = spectrum.size() / 2;
                       power.resize(bins);
                       mean.resize(bins);
                       for (std::size_t k = 0; k < bins; ++k) {
                         power[k] = bin_power(spectrum, static_cast<int64_t>(k));
                         mean[k] += power[k];
                       }
                       add_to_chroma(find_peaks(power, kLowestHertz, kHighestHertz),
                                     tonality.chroma);
                     });
  double sum = 0.0;
  for (const double c : tonality.chroma) {
    sum += c;
  }
  if (sum > 0.0) {
    for (double& c : tonality.chroma) {
      c /= sum;
    }
  }
  std::vector<Peak> peaks = find_peaks(mean, 20.0, 5000.0);
  std::stable_sort(peaks.begin(), peaks.end(),
                   [](const Peak& a, const Peak& b) { return a.power > b.power; });
  for (std::size_t i = 0; i < peaks.size() && i < kDominantFrequencies; ++i) {
    tonality.dominant_frequencies.push_back(peaks[i].hertz);
  }
  if (const auto estimate = estimate_key(tonality.chroma)) {
    tonality.key = estimate->key;
    tonality.mode = estimate->mode;
    tonality.tension = std::clamp(1.0 - triad_share(tonality.chroma, *estimate), 0.0, 1.0);
  }
  return tonality;
}

}  // namespace stemfabric
