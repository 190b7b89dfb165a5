#include "trainer/demo_songs/song_sound.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string_view>

#include "runtime/core/check.h"

namespace stemfabric {
namespace {

constexpr double kAttackSeconds = 0.008, kReleaseSeconds = 0.05, kFadeSeconds = 0.03;
constexpr std::array<double, kStemCount> kGains = {0.80, 1.15, 0.85, 0.62, 0.38, 0.62};

double peak_of(const std::vector<float>& samples) {
  double peak = 0.0;
  for (const float x : samples) {
    peak = std::max(peak, std::abs(static_cast<double>(x)));
  }
  return peak;
}

// Of the samples that sound: those above a thousandth of the peak.
double active_rms(const std::vector<float>& samples) {
  const double threshold = peak_of(samples) * 1e-3;
  double sum = 0.0;
  int64_t count = 0;
  for (const float x : samples) {
    if (std::abs(static_cast<double>(x)) > threshold) {
      sum += static_cast<double>(x) * static_cast<double>(x);
      ++count;
    }
  }
  return count == 0 ? 0.0 : std::sqrt(sum / static_cast<double>(count));
}

void scale(std::vector<float>& samples, double factor) {
  for (float& x : samples) {
    x = static_cast<float>(static_cast<double>(x) * factor);
  }
}

// tanh(drive · x / peak): what a mastered song does to its loudest parts.
void saturate(std::vector<float>& samples, double drive) {
  const double peak = peak_of(samples);
  if (peak > 0.0) {
    for (float& x : samples) {
      x = static_cast<float>(std::tanh(drive * static_cast<double>(x) / peak));
    }
  }
}

void fade_out(std::vector<float>& samples, int64_t frames, int sample_rate) {
  const auto length = std::min(frames, static_cast<int64_t>(kFadeSeconds * sample_rate));
  for (int64_t i = 0; i < length; ++i) {
    const double gain = (static_cast<double>(length - i) - 0.5) / static_cast<double>(length);
    for (int channel = 0; channel < 2; ++channel) {
      float& x = samples[static_cast<std::size_t>(2 * (frames - length + i) + channel)];
      x = static_cast<float>(static_cast<double>(x) * gain);
    }
  }
}

// Of the sum of the stems, or of a stem where others take away from it.
double loudest_sample(const std::array<std::vector<float>, kStemCount>& stems,
                      std::size_t samples) {
  double peak = 0.0;
  for (std::size_t i = 0; i < samples; ++i) {
    double sum = 0.0;
    for (const auto& stem : stems) {
      const double x = stem.empty() ? 0.0 : static_cast<double>(stem[i]);
      peak = std::max(peak, std::abs(x));
      sum += x;
    }
    peak = std::max(peak, std::abs(sum));
  }
  return peak;
}

}  // namespace

std::vector<float> play_sine(const Layer& layer, double bpm, int sample_rate, int64_t frames,
                             bool saturated) {
  std::vector<float> samples(static_cast<std::size_t>(frames * 2));
  const double rate = sample_rate;
  for (const Note& note : layer.notes) {
    const double hertz = 440.0 * std::exp2((note.key - 69) / 12.0);
    const int64_t start = std::llround(note.start * 60.0 / bpm * rate);
    const double held = note.length * 60.0 / bpm;
    const int64_t length =
        std::min<int64_t>(frames - start, std::llround((held + kReleaseSeconds) * rate));
    for (int64_t i = 0; i < length; ++i) {
      const double t = static_cast<double>(i) / rate;
      const double attack = std::min(1.0, t / kAttackSeconds);
      const double release = std::clamp((held + kReleaseSeconds - t) / kReleaseSeconds, 0.0, 1.0);
      double x = std::exp(-0.7 * t) * std::sin(2.0 * std::numbers::pi * hertz * t);
      x = attack * release * note.velocity / 127.0 * (saturated ? std::tanh(1.3 * x) : x);
      for (int channel = 0; channel < 2; ++channel) {
        samples[static_cast<std::size_t>(2 * (start + i) + channel)] += static_cast<float>(x);
      }
    }
  }
  return samples;
}

SongSound mix_stems(std::array<std::vector<float>, kStemCount> stems, int64_t frames,
                    int sample_rate, double loudness, double peak) {
  for (std::size_t s = 0; s < kStemCount; ++s) {
    std::vector<float>& stem = stems[s];
    const std::string_view name = kStemNames[s];
    if (loudness > 0.0 && (name == "drums" || name == "bass" || name == "harmonic")) {
      saturate(stem, name == "drums" ? 2.5 * loudness : loudness);
    }
    const double rms = active_rms(stem);
    if (rms > 0.0) {
      scale(stem, 0.1 * kGains[s] / rms);
      fade_out(stem, frames, sample_rate);
    }
  }
  SongSound sound{.frames = frames,
                  .stems = {},
                  .mixture = std::vector<int16_t>(static_cast<std::size_t>(frames * 2))};
  const double loudest = loudest_sample(stems, sound.mixture.size());
  const double factor = loudest > 0.0 ? 32768.0 * peak / loudest : 0.0;
  std::vector<int32_t> sum(sound.mixture.size());
  for (std::size_t s = 0; s < kStemCount; ++s) {
    for (std::size_t i = 0; i < stems[s].size(); ++i) {
      const auto value = std::lround(static_cast<double>(stems[s][i]) * factor);
      SF_CHECK(value >= INT16_MIN && value <= INT16_MAX, "stem {} is over: {}", kStemNames[s],
               value);
      sound.stems[s].push_back(static_cast<int16_t>(value));
      sum[i] += static_cast<int32_t>(value);
    }
  }
  for (std::size_t i = 0; i < sum.size(); ++i) {
    SF_CHECK(sum[i] >= INT16_MIN && sum[i] <= INT16_MAX, "the mixture is over: {}", sum[i]);
    sound.mixture[i] = static_cast<int16_t>(sum[i]);
  }
  return sound;
}

SongSound render_song(const SoundFont& font, int sample_rate, const SongPlan& plan,
                      const Score& score) {
  const int64_t frames = std::llround(plan.seconds(plan.beats()) * sample_rate);
  std::array<std::vector<float>, kStemCount> stems;
  for (std::size_t s = 0; s < kStemCount; ++s) {
    const std::vector<Layer>& layers = score.stems[s];
    if (!layers.empty()) {
      stems[s] = layers.front().sound == Sound::kSine
                     ? play_sine(layers.front(), plan.bpm, sample_rate, frames, plan.warm_sub)
                     : font.play(layers, plan.bpm, frames);
    }
  }
  return mix_stems(std::move(stems), frames, sample_rate, plan.loudness, plan.peak);
}

}  // namespace stemfabric
