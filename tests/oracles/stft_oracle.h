// The short-time Fourier transform and its inverse from the formulas of stft.h and istft.h. T =
// double sums the definition, O(n²), unless told to be quick; T = float is the plainest fast
// transform in float32, the textbook's recursion of radix 2.
#pragma once

#include <cstdint>
#include <type_traits>
#include <vector>

namespace stemfabric::test {

struct StftInput {
  int64_t channels, samples;  // channels: of all batch samples
  int64_t n_fft, hop_length;
  std::vector<double> signal;   // [channels, samples]; of stft
  std::vector<double> spectra;  // [channels, T, K, 2]; of istft
};

enum class Transform : uint8_t { kDefinition, kRecursion };
template <typename T>
inline constexpr Transform kUsualTransform =
    std::is_same_v<T, double> ? Transform::kDefinition : Transform::kRecursion;

// A signal of one channel, mirrored at both ends: sample i for −n_fft/2 <= i < samples + n_fft/2.
double mirrored(const double* signal, int64_t samples, int64_t i);

template <typename T>
std::vector<double> stft_oracle(const StftInput& in,
                                Transform transform = kUsualTransform<T>);  // [channels, T, K, 2]
template <typename T>
std::vector<double> istft_oracle(const StftInput& in,
                                 Transform transform = kUsualTransform<T>);  // [channels, samples]

}  // namespace stemfabric::test
