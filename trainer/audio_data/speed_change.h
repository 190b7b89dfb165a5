// A signal played faster or slower, pitch and tempo together: resampling by a ratio of whole
// hundredths with a windowed sinc.
//
//   y[n] = sum_k h_p[k] x[i + k - kHalf + 1],  100 i + p = speed_percent * n,  0 <= p < 100
//   h_p[k] = c sinc(c (k - kHalf + 1 - p / 100)) w((k - kHalf + 1 - p / 100) / kHalf)
//
// w is a Kaiser window (beta 8; J. F. Kaiser, "Nonrecursive digital filter design using the I0-sinh
// window function", 1974), c = 0.9 min(1, 100 / speed_percent): tones below 0.8 of the narrower
// band pass within 1e-3, and up to a speed of 125 % what would alias is 70 dB down. Taps of a phase
// add up to 1, so that a constant stays what it is. No rounding of the position adds up.
#pragma once

#include <cstdint>
#include <vector>

namespace stemfabric {

class SpeedChange {
 public:
  explicit SpeedChange(int64_t speed_percent);  // 50 to 200; 100: the signal as it is

  // Samples of the source that so many of the result need, of which the first kBefore lie before
  // the sample that becomes the result's first.
  int64_t source_frames(int64_t frames) const;
  static constexpr int64_t kBefore = 31;

  // out[n] = y[n] for 0 <= n < frames; source[kBefore] is x[0].
  void apply(const float* source, int64_t frames, float* out) const;

 private:
  static constexpr int64_t kPhases = 100;
  static constexpr int64_t kHalf = kBefore + 1;
  static constexpr int64_t kTaps = 2 * kHalf;

  int64_t percent_;
  std::vector<float> taps_;  // [kPhases, kTaps]
};

}  // namespace stemfabric
