// Chunks mixed from their parts, from the formulas of chunk_mix.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace stemfabric::test {

// As a test describes it: its samples as numbers, [C, frames].
struct MixPart {
  bool floats = false;          // stored as f32, else as i16
  std::vector<double> samples;  // empty: the part is absent
  float factor = 0;
  bool swap = false;
};
struct MixCase {
  std::string name;
  int64_t b = 1, p = 1, s = 1, c = 2, n = 1;
  std::vector<MixPart> parts;  // [B, P]

  // Every value is written once; i16 samples are read (an absent part reads nothing).
  int64_t bytes() const {
    int64_t read = 0;
    for (const MixPart& part : parts) {
      read += static_cast<int64_t>(part.samples.size()) * (part.floats ? 4 : 2);
    }
    return read + 4 * b * (s + 1) * c * n;
  }
};

template <typename T>
struct MixResult {
  std::vector<T> stems, mixture;
};
// In T: with float every product and sum is rounded once.
template <typename T>
MixResult<T> chunk_mix_oracle(const MixCase& in) {
  MixResult<T> out{std::vector<T>(static_cast<std::size_t>(in.b * in.s * in.c * in.n)),
                   std::vector<T>(static_cast<std::size_t>(in.b * in.c * in.n))};
  for (int64_t b = 0; b < in.b; ++b) {
    for (int64_t c = 0; c < in.c; ++c) {
      for (int64_t n = 0; n < in.n; ++n) {
        T sum = 0;
        for (int64_t p = 0; p < in.p; ++p) {
          const MixPart& part = in.parts[static_cast<std::size_t>(b * in.p + p)];
          const int64_t frames = static_cast<int64_t>(part.samples.size()) / in.c;
          T value = 0;
          if (n < frames) {
            const int64_t from = part.swap ? in.c - 1 - c : c;
            value = static_cast<T>(part.factor) *
                    static_cast<T>(part.samples[static_cast<std::size_t>(from * frames + n)]);
          }
          sum += value;
          if (p < in.s) {
            out.stems[static_cast<std::size_t>(((b * in.s + p) * in.c + c) * in.n + n)] = value;
          }
        }
        out.mixture[static_cast<std::size_t>((b * in.c + c) * in.n + n)] = sum;
      }
    }
  }
  return out;
}

}  // namespace stemfabric::test
