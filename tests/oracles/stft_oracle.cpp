#include "tests/oracles/stft_oracle.h"

#include <cmath>
#include <complex>
#include <numbers>

namespace stemfabric::test {
namespace {

std::size_t at(int64_t i) { return static_cast<std::size_t>(i); }

double hann(int64_t i, int64_t n) {
  return 0.5 -
         0.5 * std::cos(2 * std::numbers::pi * static_cast<double>(i) / static_cast<double>(n));
}

// exp(sign·2πi·j/n), j = 0 … n−1.
template <typename T>
std::vector<std::complex<T>> roots(std::size_t n, int sign) {
  std::vector<std::complex<T>> w;
  for (std::size_t j = 0; j < n; ++j) {
    const double angle =
        sign * 2 * std::numbers::pi * static_cast<double>(j) / static_cast<double>(n);
    w.emplace_back(static_cast<T>(std::cos(angle)), static_cast<T>(std::sin(angle)));
  }
  return w;
}

// x[offset + stride·i], i = 0 … n−1.
template <typename T>
std::vector<std::complex<T>> recursion(const std::vector<std::complex<T>>& x, std::size_t offset,
                                       std::size_t stride, const std::vector<std::complex<T>>& w) {
  const std::size_t n = x.size() / stride;
  if (n == 1) {
    return {x[offset]};
  }
  const auto even = recursion(x, offset, 2 * stride, w);
  const auto odd = recursion(x, offset + stride, 2 * stride, w);
  std::vector<std::complex<T>> out(n);
  for (std::size_t k = 0; k < n / 2; ++k) {
    const auto turned = w[k * stride] * odd[k];
    out[k] = even[k] + turned;
    out[k + n / 2] = even[k] - turned;
  }
  return out;
}

template <typename T>
std::vector<std::complex<T>> dft_oracle(const std::vector<std::complex<T>>& x, int sign,
                                        Transform transform) {
  const std::size_t n = x.size();
  const auto w = roots<T>(n, sign);
  if (transform == Transform::kRecursion) {
    return recursion(x, 0, 1, w);
  }
  std::vector<std::complex<T>> out(n);
  for (std::size_t k = 0; k < n; ++k) {
    T re = 0;
    T im = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const auto& turn = w[k * i % n];
      re += x[i].real() * turn.real() - x[i].imag() * turn.imag();
      im += x[i].real() * turn.imag() + x[i].imag() * turn.real();
    }
    out[k] = {re, im};
  }
  return out;
}

}  // namespace

double mirrored(const double* signal, int64_t samples, int64_t i) {
  return signal[i < 0 ? -i : i >= samples ? 2 * (samples - 1) - i : i];
}

template <typename T>
std::vector<double> stft_oracle(const StftInput& in, Transform transform) {
  const int64_t frames = 1 + in.samples / in.hop_length;
  std::vector<double> out;
  for (int64_t c = 0; c < in.channels; ++c) {
    for (int64_t t = 0; t < frames; ++t) {
      std::vector<std::complex<T>> frame;
      for (int64_t i = 0; i < in.n_fft; ++i) {
        const double x = mirrored(in.signal.data() + c * in.samples, in.samples,
                                  t * in.hop_length - in.n_fft / 2 + i);
        frame.emplace_back(static_cast<T>(x) * static_cast<T>(hann(i, in.n_fft)), T{0});
      }
      const auto bins = dft_oracle(frame, -1, transform);
      for (int64_t k = 0; k <= in.n_fft / 2; ++k) {
        out.push_back(bins[at(k)].real());
        out.push_back(bins[at(k)].imag());
      }
    }
  }
  return out;
}

template <typename T>
std::vector<double> istft_oracle(const StftInput& in, Transform transform) {
  const int64_t n = in.n_fft;
  const int64_t frames = 1 + in.samples / in.hop_length;
  std::vector<double> out;
  for (int64_t c = 0; c < in.channels; ++c) {
    std::vector<T> sum(at(in.samples)), squares(at(in.samples));
    for (int64_t t = 0; t < frames; ++t) {
      const double* x = in.spectra.data() + (c * frames + t) * (n / 2 + 1) * 2;
      std::vector<std::complex<T>> bins(at(n));
      for (int64_t k = 0; k <= n / 2; ++k) {
        const bool real = k == 0 || k == n / 2;
        bins[at(k)] = {static_cast<T>(x[2 * k]), real ? T{0} : static_cast<T>(x[2 * k + 1])};
        bins[at((n - k) % n)] = std::conj(bins[at(k)]);
      }
      const auto frame = dft_oracle(bins, 1, transform);
      for (int64_t i = 0; i < n; ++i) {
        const int64_t to = t * in.hop_length - n / 2 + i;
        if (to >= 0 && to < in.samples) {
          const T w = static_cast<T>(hann(i, n));
          sum[at(to)] += w * (frame[at(i)].real() / static_cast<T>(n));
          squares[at(to)] += w * w;
        }
      }
    }
    for (int64_t i = 0; i < in.samples; ++i) {
      out.push_back(sum[at(i)] / squares[at(i)]);
    }
  }
  return out;
}

template std::vector<double> stft_oracle<float>(const StftInput&, Transform);
template std::vector<double> stft_oracle<double>(const StftInput&, Transform);
template std::vector<double> istft_oracle<float>(const StftInput&, Transform);
template std::vector<double> istft_oracle<double>(const StftInput&, Transform);

}  // namespace stemfabric::test
