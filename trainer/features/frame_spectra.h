// Spectra of windows of a signal (kernels/stft), in bounded memory.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "runtime/device/execution_context.h"

namespace stemfabric {

// re, im of bins 0 … n_fft/2 of the Hann-windowed samples start … start + n_fft - 1.
using UseSpectrum = std::function<void(int64_t frame, std::span<const float> spectrum)>;

// Frames at any starts, which must lie within the signal, in the given order.
void for_spectra_at(const ExecutionContext& ctx, std::span<const float> signal, int64_t n_fft,
                    std::span<const int64_t> starts, const UseSpectrum& use);

// Every `hop`-th frame that lies within the signal; hop divides n_fft/2.
void for_every_spectrum(const ExecutionContext& ctx, std::span<const float> signal, int64_t n_fft,
                        int64_t hop, const UseSpectrum& use);

// Power of one bin such that the sum over the bins of a range is the mean square of the windowed
// signal's part in that range: white or stationary signals keep theirs, a full-scale sine has 0.5.
double bin_power(std::span<const float> spectrum, int64_t bin);

}  // namespace stemfabric
