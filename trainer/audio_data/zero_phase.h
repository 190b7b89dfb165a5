// A low-pass without delay: what it leaves and what it takes add up to the signal.
#pragma once

#include <cstdint>

namespace stemfabric {

// signal[n] (=) the signal through a Butterworth filter of order 4, forwards and then backwards, as
// if zeros lay before and behind it: |H|^2 = 1 / (1 + (f / hertz)^8) (bilinear transform), -6 dB at
// `hertz`, no phase. 0 < hertz < sample_rate / 2. Source of the two sections: R. Bristow-Johnson,
// "Cookbook formulae for audio equalizer biquad filter coefficients".
void zero_phase_lowpass(float* signal, int64_t frames, double hertz, int64_t sample_rate);

}  // namespace stemfabric
