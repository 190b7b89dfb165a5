// Cases shared by the tests and the benchmarks of stft and istft.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace stemfabric::test {

struct StftCase {
  std::string name;
  int64_t b, c, samples;
  int64_t n_fft, hop_length;
  bool strided = false;  // [B, C, N] lies as [C, B, N] with gaps, the spectra likewise
  int64_t frames() const { return 1 + samples / hop_length; }
  int64_t bins() const { return n_fft / 2 + 1; }
  // Reads the signal and writes the spectra.
  int64_t bytes() const { return b * c * (samples + frames() * bins() * 2) * 4; }
};

inline std::vector<StftCase> stft_test_cases() {
  return {
      {"n512_one_channel", 1, 1, 1337, 512, 128},
      {"n512_shortest", 1, 2, 257, 512, 512},
      {"n512_whole_hops", 1, 2, 1024, 512, 128},
      {"n512_three_channels_strided", 2, 3, 1000, 512, 256, true},
      {"n512_many_frames", 1, 2, 9001, 512, 128},
      {"n512_hop32", 1, 2, 700, 512, 32},
      {"n1024", 2, 2, 2500, 1024, 256, true},
      {"n2048", 1, 2, 3001, 2048, 512},
      {"n4096", 1, 2, 4001, 4096, 1024},
      {"n4096_shortest", 1, 2, 2049, 4096, 4096},
  };
}

// A minute of stereo.
inline std::vector<StftCase> stft_benchmark_cases() {
  return {{"n2048_hop512_60s", 1, 2, 60 * 44100, 2048, 512},
          {"n4096_hop1024_60s", 1, 2, 60 * 44100, 4096, 1024}};
}
// A training batch: chunks of eight seconds.
inline std::vector<StftCase> stft_gpu_benchmark_cases() {
  return {{"b32_n2048_hop512_8s", 32, 2, 8 * 44100, 2048, 512},
          {"b32_n4096_hop1024_8s", 32, 2, 8 * 44100, 4096, 1024}};
}

}  // namespace stemfabric::test
