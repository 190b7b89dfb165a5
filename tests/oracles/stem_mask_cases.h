// Shapes of the masks and their loss, shared by test and benchmark.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace stemfabric::test {

struct StemMaskCase {
  std::string name;
  int64_t s, b, c, t, k, bands;
  bool complex_mask = true;
  bool shared = true;  // one mask for all channels
  double compression = 0.5;
  double magnitude_weight = 0.7, complex_weight = 0.4;
  bool presence = true, key_mask = true, weight = true;
  bool strided = false;  // spectra lie sample first, with gaps; prediction and gradient too
  int64_t row_gap = 3;

  int64_t outputs() const { return (shared ? 1 : c) * (complex_mask ? 2 : 1) * bands; }
  int64_t spectrum_floats() const { return b * c * t * k * 2; }
  // Reads every spectrum once and the outputs, writes the gradient.
  int64_t loss_bytes() const {
    return 4 * ((s + 1) * spectrum_floats() + 2 * s * b * t * outputs());
  }
  int64_t apply_bytes() const { return 4 * ((s + 1) * spectrum_floats() + s * b * t * outputs()); }
};

inline std::vector<StemMaskCase> stem_mask_test_cases() {
  return {
      {"one_frame_of_two_bins", 1, 1, 1, 1, 2, 2, false, true, 1, 1, 0, false, false, false},
      {"real_k5", 2, 1, 2, 3, 5, 3, false},
      {"complex_k33", 3, 2, 2, 4, 33, 9},
      {"real_per_channel_k65", 3, 2, 2, 3, 65, 16, false, false, 1},
      {"complex_per_channel_k65", 2, 3, 2, 3, 65, 16, true, false, 1},
      {"one_channel_power", 2, 1, 1, 3, 129, 24, true, true, 0.3},
      {"real_power_k257", 2, 1, 2, 2, 257, 40, false, true, 0.3},
      {"strided_k97", 3, 3, 2, 4, 97, 20, true, true, 0.5, 0.7, 0.4, true, true, true, true},
      {"strided_aligned_k64", 2, 2, 2, 3, 64, 20, false, false, 1, 1, 1, true, true, true, true, 8},
      {"band_per_bin_k37", 2, 2, 2, 2, 37, 37, true, true, 0.5, 0.7, 0.4, false, true, false},
      {"more_bands_than_bins_k16", 2, 2, 2, 2, 16, 20, false, true, 0.5, 0.7, 0.4, true, false},
      {"two_bands_k300", 2, 1, 2, 2, 300, 2, true, true, 0.5, 1, 1, false, false, true},
      {"magnitude_only", 2, 2, 2, 2, 50, 12, true, true, 0.5, 1, 0},
      {"complex_only", 2, 2, 2, 2, 50, 12, true, false, 0.5, 0, 1},
      {"three_channels", 2, 1, 3, 2, 41, 11, false, false, 0.5},
      {"k2049", 2, 1, 2, 2, 2049, 128},
  };
}

// Chunks of audio of three and of six seconds at hop 1024: a mask for each channel or for both.
inline std::vector<StemMaskCase> stem_mask_benchmark_cases() {
  return {{"b2_t130_k2049_complex", 6, 2, 2, 130, 2049, 128, true, false},
          {"b2_t130_k2049_real", 6, 2, 2, 130, 2049, 256, false},
          {"b2_t130_k2049_power", 6, 2, 2, 130, 2049, 128, true, true, 0.3}};
}
inline std::vector<StemMaskCase> stem_mask_gpu_benchmark_cases() {
  return {{"b4_t260_k2049_complex", 6, 4, 2, 260, 2049, 128, true, false},
          {"b4_t260_k2049_real", 6, 4, 2, 260, 2049, 256, false},
          {"b4_t260_k2049_power", 6, 4, 2, 260, 2049, 128, true, true, 0.3}};
}

}  // namespace stemfabric::test
