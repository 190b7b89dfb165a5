// Small multi-track recordings for tests of audio data sets.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "runtime/io/audio_file.h"
#include "tests/support/paths.h"

namespace stemfabric::test {

// Interleaved stereo in [-0.125, 0.125): integers / 32768, another sequence for every seed.
inline std::vector<float> noise(int64_t frames, uint32_t seed, int channels = 2) {
  std::vector<float> samples(static_cast<std::size_t>(frames * channels));
  uint64_t state = seed * 2654435761ULL + 1;
  for (float& sample : samples) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    sample = static_cast<float>(static_cast<int>(state >> 51) - 4096) / 32768.0F;
  }
  return samples;
}

struct AudioShape {
  int channels = 2;
  int rate = 44100;
  SampleFormat format = SampleFormat::kPcm16;
};

// Makes the folders that are missing.
inline void put_audio(const std::filesystem::path& path, const std::vector<float>& interleaved,
                      AudioShape shape = {}) {
  std::filesystem::create_directories(path.parent_path());
  AudioWriter writer(path, shape.rate, shape.channels, shape.format);
  writer.write(interleaved.data(), static_cast<int64_t>(interleaved.size()) / shape.channels);
  writer.finish();
}

inline std::vector<float> sum(const std::vector<std::vector<float>>& signals) {
  std::vector<float> total(signals.front().size(), 0.0F);
  for (const auto& signal : signals) {
    std::transform(signal.begin(), signal.end(), total.begin(), total.begin(), std::plus<>());
  }
  return total;
}

// Planar [2, N] of interleaved stereo.
inline std::vector<float> planar(const std::vector<float>& interleaved) {
  const std::size_t frames = interleaved.size() / 2;
  std::vector<float> result(interleaved.size());
  for (std::size_t n = 0; n < frames; ++n) {
    result[n] = interleaved[2 * n];
    result[frames + n] = interleaved[2 * n + 1];
  }
  return result;
}

}  // namespace stemfabric::test
