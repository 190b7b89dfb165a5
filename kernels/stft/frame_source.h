// Where the samples of a frame lie: in the signal, or, for a frame that reaches over an end of it,
// in a copy with the end mirrored.
#pragma once

#include <algorithm>
#include <cstdint>

namespace stemfabric::cpu {

// Samples t·hop − n_fft/2 … of n samples of one channel; `copy` has room for n_fft floats.
inline const float* frame_samples(const float* signal, int64_t samples, int64_t n_fft,
                                  int64_t hop_length, int64_t t, float* copy) {
  const int64_t begin = t * hop_length - n_fft / 2;
  if (begin >= 0 && begin + n_fft <= samples) {
    return signal + begin;
  }
  // No sample lies further than n_fft/2 < samples outside: mirrored once, it lies inside.
  const int64_t first = std::max<int64_t>(begin, 0);
  const int64_t last = std::min(begin + n_fft, samples);
  std::copy(signal + first, signal + last, copy + (first - begin));
  for (int64_t i = begin; i < 0; ++i) {
    copy[i - begin] = signal[-i];
  }
  for (int64_t i = samples; i < begin + n_fft; ++i) {
    copy[i - begin] = signal[2 * (samples - 1) - i];
  }
  return copy;
}

}  // namespace stemfabric::cpu
