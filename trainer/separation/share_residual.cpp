#include "trainer/separation/share_residual.h"

#include <array>

#include "runtime/core/check.h"
#include "trainer/stems.h"

namespace stemfabric {

void share_residual(const ConstTensorView& mixture, const TensorView& stems) {
  SF_CHECK(stems.dim(0) == kStemCount && stems.dim(3) == mixture.dim(2), "stems {} of a mixture {}",
           stems.shape().to_string(), mixture.shape().to_string());
  const int64_t values = 2 * mixture.dim(3);
  for (int64_t c = 0; c < mixture.dim(1); ++c) {
    for (int64_t t = 0; t < mixture.dim(2); ++t) {
      const float* x = mixture.as<float>() + c * mixture.stride(1) + t * mixture.stride(2);
      std::array<float*, kStemCount> rows{};
      for (int64_t s = 0; s < kStemCount; ++s) {
        rows[static_cast<std::size_t>(s)] =
            stems.as<float>() + s * stems.stride(0) + c * stems.stride(2) + t * stems.stride(3);
      }
      for (int64_t i = 0; i < values; i += 2) {
        std::array<float, kStemCount> power{};
        float total = 0;
        float re = x[i], im = x[i + 1];
        for (std::size_t s = 0; s < kStemCount; ++s) {
          power[s] = rows[s][i] * rows[s][i] + rows[s][i + 1] * rows[s][i + 1];
          total += power[s];
          re -= rows[s][i];
          im -= rows[s][i + 1];
        }
        for (std::size_t s = 0; s < kStemCount; ++s) {
          const float share = total > 0 ? power[s] / total : 1.0F / kStemCount;
          rows[s][i] += share * re;
          rows[s][i + 1] += share * im;
        }
      }
    }
  }
}

}  // namespace stemfabric
