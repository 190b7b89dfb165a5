#include "trainer/report/spectrogram.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/stft/stft.h"
#include "runtime/core/check.h"
#include "runtime/memory/buffer.h"
#include "trainer/device_context.h"

namespace stemfabric {
namespace {

constexpr int64_t kWindow = 2048;
constexpr int64_t kHop = 512;
constexpr double kLowest = 40;  // Hz
constexpr double kRange = 80;   // dB

void append_number(std::string& bytes, uint32_t value, int size) {
  for (int i = 0; i < size; ++i) {
    bytes.push_back(static_cast<char>((value >> (8 * i)) & 0xff));
  }
}

// Dark blue, violet, orange, pale yellow.
std::array<uint8_t, 3> colour(double x) {
  constexpr std::array<std::array<double, 3>, 5> kStops = {
      {{10, 10, 30}, {70, 20, 105}, {190, 55, 80}, {250, 150, 50}, {252, 250, 190}}};
  const double place = x * (kStops.size() - 1);
  const auto low = std::min(static_cast<std::size_t>(place), kStops.size() - 2);
  std::array<uint8_t, 3> rgb{};
  for (std::size_t c = 0; c < rgb.size(); ++c) {
    const double value =
        kStops[low][c] + (place - static_cast<double>(low)) * (kStops[low + 1][c] - kStops[low][c]);
    rgb[c] = static_cast<uint8_t>(std::lround(value));
  }
  return rgb;
}

// An uncompressed bitmap with a palette; rows from the lowest frequency up, as the format has them.
std::string bitmap(const std::vector<uint8_t>& pixels) {
  constexpr uint32_t kColours = 256;
  constexpr uint32_t kHeader = 14 + 40 + 4 * kColours;
  static_assert(kSpectrogramWidth % 4 == 0, "rows are padded to four bytes");
  std::string bytes = "BM";
  append_number(bytes, kHeader + static_cast<uint32_t>(pixels.size()), 4);
  append_number(bytes, 0, 4);
  append_number(bytes, kHeader, 4);
  append_number(bytes, 40, 4);
  append_number(bytes, kSpectrogramWidth, 4);
  append_number(bytes, kSpectrogramHeight, 4);
  append_number(bytes, 1, 2);  // planes
  append_number(bytes, 8, 2);  // bits per pixel
  append_number(bytes, 0, 4);  // no compression
  append_number(bytes, static_cast<uint32_t>(pixels.size()), 4);
  append_number(bytes, 2835, 4);  // pixels per metre
  append_number(bytes, 2835, 4);
  append_number(bytes, kColours, 4);
  append_number(bytes, 0, 4);
  for (uint32_t i = 0; i < kColours; ++i) {
    const auto rgb = colour(i / 255.0);
    bytes.append(
        {static_cast<char>(rgb[2]), static_cast<char>(rgb[1]), static_cast<char>(rgb[0]), '\0'});
  }
  return bytes.append(pixels.begin(), pixels.end());
}

}  // namespace

std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t word = 0;
    const std::size_t have = std::min<std::size_t>(3, bytes.size() - i);
    for (std::size_t b = 0; b < 3; ++b) {
      word = (word << 8) | (b < have ? static_cast<uint8_t>(bytes[i + b]) : 0U);
    }
    for (std::size_t d = 0; d < 4; ++d) {
      text.push_back(d <= have ? kDigits[(word >> (18 - 6 * d)) & 63] : '=');
    }
  }
  return text;
}

std::string spectrogram_picture(const ConstTensorView& signal, int64_t sample_rate) {
  const int64_t n = signal.dim(1);
  SF_CHECK(n > kWindow / 2, "a spectrogram of {} samples", n);
  const ExecutionContext ctx = device_context("cpu", "training.device", 1);
  Tensor mono({1, 1, n}, DType::kF32);
  for (int64_t i = 0; i < n; ++i) {
    mono.as<float>()[i] = 0.5F * (signal.as<float>()[i] + signal.as<float>()[signal.stride(0) + i]);
  }
  const int64_t frames = stft_frames(n, kHop);
  const int64_t bins = stft_bins(kWindow);
  Tensor spectra({1, 1, frames, bins, 2}, DType::kF32);
  stft(ctx,
       {.signal = mono.view(), .n_fft = kWindow, .hop_length = kHop, .spectra = spectra.view()});
  const double full_scale = kWindow / 4.0;  // of a sine: half the sum of the window
  const double octaves = std::log2(static_cast<double>(sample_rate) / 2 / kLowest);
  std::vector<uint8_t> pixels;
  for (int y = 0; y < kSpectrogramHeight; ++y) {
    const auto bin_at = [&](double row) {
      const double hz = kLowest * std::exp2(octaves * row / kSpectrogramHeight);
      const double bin = hz * static_cast<double>(kWindow) / static_cast<double>(sample_rate);
      return std::clamp<int64_t>(std::llround(bin), 0, bins - 1);
    };
    for (int x = 0; x < kSpectrogramWidth; ++x) {
      const int64_t t = std::min(frames - 1, x * frames / kSpectrogramWidth);
      const float* row = spectra.as<float>() + t * bins * 2;
      double loudest = 0;
      for (int64_t k = bin_at(y); k <= bin_at(y + 1); ++k) {
        loudest = std::max(loudest, static_cast<double>(std::hypot(row[2 * k], row[2 * k + 1])));
      }
      const double db = 20 * std::log10(loudest / full_scale + 1e-9);
      pixels.push_back(
          static_cast<uint8_t>(std::lround(255 * std::clamp(1 + db / kRange, 0.0, 1.0))));
    }
  }
  return "data:image/bmp;base64," + base64(bitmap(pixels));
}

}  // namespace stemfabric
