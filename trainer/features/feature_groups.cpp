#include "trainer/features/feature_groups.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "runtime/core/check.h"
#include "trainer/features/frame_spectra.h"

namespace stemfabric {
namespace {

using Span = std::span<const float>;

Span window(const std::vector<float>& samples, int64_t start, int64_t length) {
  return Span(samples).subspan(static_cast<std::size_t>(start), static_cast<std::size_t>(length));
}

double mean_square(Span x) {
  double sum = 0.0;
  for (const float v : x) {
    sum += static_cast<double>(v) * static_cast<double>(v);
  }
  return sum / static_cast<double>(x.size());
}

double rms(Span x) { return std::sqrt(mean_square(x)); }

double peak(Span x) {
  double highest = 0.0;
  for (const float v : x) {
    highest = std::max(highest, std::abs(static_cast<double>(v)));
  }
  return highest;
}

double sign_changes(Span x) {
  int64_t changes = 0;
  for (std::size_t i = 1; i < x.size(); ++i) {
    changes += (x[i] >= 0.0f) != (x[i - 1] >= 0.0f) ? 1 : 0;
  }
  return static_cast<double>(changes) / static_cast<double>(x.size());
}

// The lag from 10 to 499 samples with the largest unbiased autocorrelation; 0 if none is positive.
double best_lag(Span x) {
  double best = 0.0;
  int64_t best_at = 0;
  const auto count = static_cast<int64_t>(x.size());
  for (int64_t lag = 10; lag < 500; ++lag) {
    double sum = 0.0;
    for (int64_t i = lag; i < count; ++i) {
      sum += static_cast<double>(x[static_cast<std::size_t>(i)]) *
             static_cast<double>(x[static_cast<std::size_t>(i - lag)]);
    }
    sum /= static_cast<double>(count - lag);
    if (sum > best) {
      best = sum;
      best_at = lag;
    }
  }
  return static_cast<double>(best_at);
}

// Which raw values of a group are kept: the i-th is raw index i · stride.
struct KeptValues {
  int64_t stride, count, slots;
  int64_t frame(int64_t i) const { return i * stride / slots; }
  int64_t slot(int64_t i) const { return i * stride % slots; }
};

KeptValues kept_values(FeatureGroup group, int64_t samples, int64_t channels) {
  const int64_t raw = raw_length(group, samples, channels);
  const int64_t stride = stride_of(raw);
  return {.stride = stride, .count = ceil_div(raw, stride), .slots = geometry(group).slots};
}

int64_t start_of(FeatureGroup group, int64_t frame) {
  return geometry(group).first_start + frame * geometry(group).hop;
}

// The value of each kept index from samples alone.
template <typename Value>
std::vector<float> from_samples(FeatureGroup group, const SongSamples& song, const Value& value) {
  const KeptValues kept = kept_values(group, song.samples(), song.channel_count());
  std::vector<float> values;
  for (int64_t i = 0; i < kept.count; ++i) {
    values.push_back(static_cast<float>(value(start_of(group, kept.frame(i)), kept.slot(i))));
  }
  return values;
}

// The value of each kept index from the spectrum of its frame.
template <typename Value>
std::vector<float> from_spectra(const ExecutionContext& ctx, FeatureGroup group, Span signal,
                                const KeptValues& kept, const Value& value) {
  std::vector<int64_t> frames;
  for (int64_t i = 0; i < kept.count; ++i) {
    if (frames.empty() || frames.back() != kept.frame(i)) {
      frames.push_back(kept.frame(i));
    }
  }
  std::vector<int64_t> starts;
  for (const int64_t frame : frames) {
    starts.push_back(start_of(group, frame));
  }
  std::vector<float> values;
  int64_t i = 0;
  for_spectra_at(
      ctx, signal, geometry(group).window, starts,
      [&](int64_t index, std::span<const float> spectrum) {
        const int64_t frame = frames[static_cast<std::size_t>(index)];
        const auto of_frame = value(spectrum);
        for (; i < kept.count && kept.frame(i) == frame; ++i) {
          values.push_back(static_cast<float>(of_frame[static_cast<std::size_t>(kept.slot(i))]));
        }
      });
  return values;
}

constexpr int64_t kBandCount = geometry(FeatureGroup::kSpectral).slots;

std::vector<std::size_t> mel_bands(int64_t bins, int sample_rate) {
  const auto mel = [](double hertz) { return std::log1p(hertz / 700.0); };
  std::vector<std::size_t> band_of;
  for (int64_t bin = 0; bin < bins; ++bin) {
    const double nyquist = 0.5 * sample_rate;
    const double hertz = nyquist * static_cast<double>(bin) / static_cast<double>(bins - 1);
    const auto band = static_cast<int64_t>(mel(hertz) / mel(nyquist) * kBandCount);
    band_of.push_back(static_cast<std::size_t>(std::min(band, kBandCount - 1)));
  }
  return band_of;
}

// Up to eight pairs (frequency in bins, amplitude) of the highest spectral peaks, the lowest first.
constexpr std::size_t kPairs = 8;
std::array<double, 2 * kPairs> harmonic_peaks(std::span<const float> spectrum) {
  const auto bins = static_cast<int64_t>(spectrum.size() / 2);
  struct Peak {
    double bin, amplitude;
  };
  std::vector<double> power(static_cast<std::size_t>(bins));
  for (int64_t k = 0; k < bins; ++k) {
    power[static_cast<std::size_t>(k)] = bin_power(spectrum, k);
  }
  std::vector<Peak> peaks;
  for (std::size_t k = 1; k + 1 < power.size(); ++k) {
    if (power[k] > power[k - 1] && power[k] >= power[k + 1]) {
      // A sine at the middle of a bin has two thirds of its mean square in it, A² / 2 in all.
      peaks.push_back({static_cast<double>(k), std::sqrt(2.0 * 1.5 * power[k])});
    }
  }
  std::stable_sort(peaks.begin(), peaks.end(),
                   [](const Peak& a, const Peak& b) { return a.amplitude > b.amplitude; });
  peaks.resize(std::min(peaks.size(), kPairs));
  std::sort(peaks.begin(), peaks.end(), [](const Peak& a, const Peak& b) { return a.bin < b.bin; });
  std::array<double, 2 * kPairs> pairs{};
  for (std::size_t i = 0; i < peaks.size(); ++i) {
    pairs[2 * i] = peaks[i].bin;
    pairs[2 * i + 1] = peaks[i].amplitude;
  }
  return pairs;
}

double percussive_value(const SongSamples& song, std::span<const Onset> onsets, int64_t start,
                        int64_t slot) {
  const int64_t length = geometry(FeatureGroup::kPercussive).window;
  const Span x = window(song.mono, start, length);
  switch (slot) {
    case 0:
      return rms(x);
    case 1:
      return std::abs(rms(x) - rms(window(song.mono, start - length, length)));
    case 2: {
      const auto in_frame = [&](const Onset& onset) {
        const double sample = onset.time * song.sample_rate;
        return sample >= static_cast<double>(start) && sample < static_cast<double>(start + length);
      };
      return std::any_of(onsets.begin(), onsets.end(), in_frame) ? 1.0 : 0.0;
    }
    default:
      return peak(x);
  }
}

double stereo_value(Span left, Span right, int64_t slot) {
  double ll = 0.0, rr = 0.0, lr = 0.0, angles = 0.0;
  for (std::size_t i = 0; i < left.size(); ++i) {
    const double l = left[i], r = right[i];
    ll += l * l;
    rr += r * r;
    lr += l * r;
    angles += std::atan2(r, l);
  }
  const auto count = static_cast<double>(left.size());
  switch (slot) {
    case 0:
      return ll > 0.0 && rr > 0.0 ? lr / std::sqrt(ll * rr) : 0.0;
    case 1: {
      const double l = std::sqrt(ll / count), r = std::sqrt(rr / count);
      return (r - l) / (l + r + 1e-4);
    }
    default:
      return angles / count;
  }
}

// Mean, variance, maximum and minimum of the RMS of the windows.
std::vector<float> energy_values(const SongSamples& song) {
  const GroupGeometry& g = geometry(FeatureGroup::kEnergy);
  std::vector<double> levels;
  for (int64_t start = 0; start < song.samples() - g.window; start += g.hop) {
    levels.push_back(rms(window(song.mono, start, g.window)));
  }
  if (levels.empty()) {
    return {};
  }
  double mean = 0.0, variance = 0.0;
  for (const double level : levels) {
    mean += level / static_cast<double>(levels.size());
  }
  for (const double level : levels) {
    variance += (level - mean) * (level - mean) / static_cast<double>(levels.size());
  }
  const auto [least, most] = std::minmax_element(levels.begin(), levels.end());
  return {static_cast<float>(mean), static_cast<float>(variance), static_cast<float>(*most),
          static_cast<float>(*least)};
}

}  // namespace

std::vector<float> band_energies(const ExecutionContext& ctx, std::span<const float> mono,
                                 int sample_rate, int64_t stride) {
  constexpr auto kGroup = FeatureGroup::kSpectral;
  const int64_t raw = raw_length(kGroup, static_cast<int64_t>(mono.size()), 1);
  const auto band_of = mel_bands(geometry(kGroup).window / 2 + 1, sample_rate);
  return from_spectra(ctx, kGroup, mono,
                      {.stride = stride, .count = ceil_div(raw, stride), .slots = kBandCount},
                      [&](std::span<const float> spectrum) {
                        std::array<double, kBandCount> bands{};
                        for (std::size_t bin = 0; bin < band_of.size(); ++bin) {
                          bands[band_of[bin]] += bin_power(spectrum, static_cast<int64_t>(bin));
                        }
                        return bands;
                      });
}

std::vector<float> feature_group(const ExecutionContext& ctx, FeatureGroup group,
                                 const SongSamples& song, std::span<const Onset> onsets) {
  const int64_t length = geometry(group).window;
  switch (group) {
    case FeatureGroup::kSpectral:
      return band_energies(ctx, song.mono, song.sample_rate,
                           stride_of(raw_length(group, song.samples(), song.channel_count())));
    case FeatureGroup::kTemporal:
      return from_samples(group, song, [&](int64_t start, int64_t slot) {
        const Span x = window(song.mono, start, length);
        return slot == 0 ? rms(x) : slot == 1 ? sign_changes(x) : best_lag(x);
      });
    case FeatureGroup::kHarmonic:
      return from_spectra(ctx, group, song.mono,
                          kept_values(group, song.samples(), song.channel_count()), harmonic_peaks);
    case FeatureGroup::kPercussive:
      return from_samples(group, song, [&](int64_t start, int64_t slot) {
        return percussive_value(song, onsets, start, slot);
      });
    case FeatureGroup::kStereo:
      if (song.channel_count() == 1) {
        return {0.0f, 0.0f, 0.0f};
      }
      return from_samples(group, song, [&](int64_t start, int64_t slot) {
        return stereo_value(window(song.channels[0], start, length),
                            window(song.channels[1], start, length), slot);
      });
    case FeatureGroup::kEnergy:
      return energy_values(song);
  }
  return {};
}

}  // namespace stemfabric
