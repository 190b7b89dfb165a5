#include "kernels/common/fft_tables.h"

#include <cmath>
#include <numbers>

#include "runtime/core/check.h"

namespace stemfabric {

FftTables::FftTables(int points) : n(points) {
  constexpr double kPi = std::numbers::pi;
  for (int i = 0; i < n; ++i) {
    const double s = std::sin(kPi * i / n);
    window.push_back(static_cast<float>(s * s));
  }
  for (int left = n; left > 4; left /= 4) {
    for (int row = 0; row < 6; ++row) {
      for (int p = 0; p < left / 4; ++p) {
        const double angle = -2 * kPi * p * (row / 2 + 1) / left;
        twiddles.push_back(static_cast<float>(row % 2 == 0 ? std::cos(angle) : std::sin(angle)));
      }
    }
  }
}

const FftTables& fft_tables(int64_t n) {
  SF_CHECK(is_fft_size(n), "no FFT of {} points; n_fft must be a power of two from {} to {}", n,
           kMinFftSize, kMaxFftSize);
  static const FftTables k512(512);
  static const FftTables k1024(1024);
  static const FftTables k2048(2048);
  static const FftTables k4096(4096);
  return n == 512 ? k512 : n == 1024 ? k1024 : n == 2048 ? k2048 : k4096;
}

}  // namespace stemfabric
