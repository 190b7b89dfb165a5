// The spectrogram of a signal as a picture for a page.
#pragma once

#include <string>

#include "runtime/core/tensor_view.h"

namespace stemfabric {

// A data URI (image/bmp, 256 colours) of kSpectrogramWidth × kSpectrogramHeight pixels: time to the
// right, frequency upwards on a logarithmic axis from 40 Hz to half the sample rate, colour by
// level, from 80 dB below a full-scale sine (dark) to 0 dB.
//   signal [2, N] f32 in host memory, N above 1024; their mean is shown
inline constexpr int kSpectrogramWidth = 240;
inline constexpr int kSpectrogramHeight = 96;
std::string spectrogram_picture(const ConstTensorView& signal, int64_t sample_rate);

std::string base64(std::string_view bytes);

}  // namespace stemfabric
