// Cases shared by the tests and the benchmark of stft_features.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <string>
#include <vector>

namespace stemfabric::test {

struct FeaturesCase {
  std::string name;
  int64_t b, samples;
  int64_t n_fft, hop_length;
  int64_t sample_rate = 44100;
  bool strided = false;  // the signal lies as [2, B, N] with gaps, the features as [T, B, 256]
  bool spectra = false;
  int64_t frames() const { return 1 + samples / hop_length; }
  int64_t bins() const { return n_fft / 2 + 1; }
};

inline std::vector<FeaturesCase> features_test_cases() {
  return {
      {"n512_shortest", 1, 257, 512, 32},
      {"n512_eleven_frames", 1, 1337, 512, 128},
      {"n512_many_frames", 1, 4111, 512, 128, 22050},
      {"n512_hop32_strided", 2, 1000, 512, 32, 48000, true, true},
      {"n1024_slow", 1, 3000, 1024, 512, 8000},
      {"n2048_fast", 1, 5001, 2048, 512, 192000, false, true},
      {"n4096", 1, 9001, 4096, 1024},
  };
}

// A minute of stereo, and on a GPU a training batch: chunks of eight seconds.
inline std::vector<FeaturesCase> features_benchmark_cases() {
  return {{"n2048_hop512_60s", 1, 60 * 44100, 2048, 512},
          {"n4096_hop1024_60s", 1, 60 * 44100, 4096, 1024}};
}
inline std::vector<FeaturesCase> features_gpu_benchmark_cases() {
  return {{"b32_n2048_hop512_8s", 32, 8 * 44100, 2048, 512},
          {"b32_n4096_hop1024_8s", 32, 8 * 44100, 4096, 1024}};
}

// Something like music, [B, 2, N], where every feature has something to say: a gliding tone with
// harmonics to the left, a steady one in the middle, another turned in phase between the channels,
// bursts of noise to the right, and soft noise over all bins. `noise` is uniform in −1 … 1, as
// long.
inline std::vector<double> music_like(const FeaturesCase& c, const std::vector<double>& noise) {
  std::vector<double> x(noise.size());
  for (int64_t b = 0; b < c.b; ++b) {
    const auto left = static_cast<std::size_t>(2 * b * c.samples);
    const auto right = static_cast<std::size_t>((2 * b + 1) * c.samples);
    for (std::size_t i = 0; i < static_cast<std::size_t>(c.samples); ++i) {
      const double turn =
          2 * std::numbers::pi * static_cast<double>(i) / static_cast<double>(c.sample_rate);
      const auto f = static_cast<double>(b + 1);
      double glide = 0;
      for (int h = 1; h <= 4; ++h) {
        glide += 0.2 / h * std::sin(h * turn * (220 * f + 0.002 * static_cast<double>(i)));
      }
      const double steady = 0.2 * std::sin(440 * f * turn) + 0.1 * std::sin(1320 * f * turn);
      const double burst = 0.5 * std::exp(-static_cast<double>(i % 1500) / 100);
      x[left + i] = glide + steady + 0.1 * std::sin(2500 * turn) + 0.1 * noise[left + i];
      x[right + i] =
          0.2 * glide + steady + 0.1 * std::cos(2500 * turn) + (burst + 0.05) * noise[right + i];
    }
  }
  return x;
}

}  // namespace stemfabric::test
