// The level of a mixture, so that features do not depend on how loud a song was mastered.
#pragma once

#include <cstdint>
#include <vector>

namespace stemfabric {

inline constexpr double kLevelTarget = 0.1;  // RMS after scaling by the gain

// Takes a stereo signal in parts of any length. The level is the RMS of both channels over the
// blocks of 100 ms that are not silent: within 40 dB of the loudest block.
class LevelMeter {
 public:
  explicit LevelMeter(int64_t sample_rate);
  void add(const float* left, const float* right, int64_t frames);
  double rms() const;   // 0 for a silent signal
  double gain() const;  // kLevelTarget / rms(); 1 for silence, and for what is next to it

 private:
  struct Block {
    double energy = 0;
    int64_t frames = 0;
  };
  int64_t block_frames_;
  std::vector<Block> blocks_;
};

}  // namespace stemfabric
