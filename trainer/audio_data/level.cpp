#include "trainer/audio_data/level.h"

#include <algorithm>
#include <cmath>

namespace stemfabric {

LevelMeter::LevelMeter(int64_t sample_rate)
    : block_frames_(std::max<int64_t>(1, sample_rate / 10)) {}

void LevelMeter::add(const float* left, const float* right, int64_t frames) {
  for (int64_t n = 0; n < frames;) {
    if (blocks_.empty() || blocks_.back().frames == block_frames_) {
      blocks_.emplace_back();
    }
    Block& block = blocks_.back();
    const int64_t end = std::min(frames, n + block_frames_ - block.frames);
    block.frames += end - n;
    for (; n < end; ++n) {  // in order, so that the cutting into parts does not show
      const auto l = static_cast<double>(left[n]);
      const auto r = static_cast<double>(right[n]);
      block.energy += l * l + r * r;
    }
  }
}

double LevelMeter::rms() const {
  constexpr double kRange = 1e-4;  // 40 dB as energies
  const auto mean = [](const Block& block) {
    return block.energy / static_cast<double>(block.frames);
  };
  double loudest = 0;
  for (const Block& block : blocks_) {
    loudest = std::max(loudest, mean(block));
  }
  double energy = 0;
  int64_t frames = 0;
  for (const Block& block : blocks_) {
    if (mean(block) >= kRange * loudest) {
      energy += block.energy;
      frames += block.frames;
    }
  }
  return frames == 0 ? 0.0 : std::sqrt(energy / static_cast<double>(2 * frames));
}

double LevelMeter::gain() const {
  constexpr double kLowestLevel = 1e-29;  // below it the gain would leave float32
  const double level = rms();
  return level > kLowestLevel ? kLevelTarget / level : 1.0;
}

}  // namespace stemfabric
